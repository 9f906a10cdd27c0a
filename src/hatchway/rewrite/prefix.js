// What makes an application's scripts work under a path prefix.
//
// The application believes that it lives at the root of its host. Everything that a script hands to the browser as an
// address gets the prefix (`add`), everything that it reads back is without it (`del`). Both are idempotent. What is
// not ours (another host, `data:`, `blob:`) is left alone.
//
// This is the frame: each `//= NAME` stands for browser/NAME.js, in one function's scope, `//= vocabulary` for the lists
// of vocabulary.py (script.py puts it together). The whole runs first in every
// document, and at the beginning of every worker's script. It is served with its comments and indentation taken off,
// the two arguments at its end filled in, and inline; so it has no block comments, no text that spans lines, and nowhere
// the characters that end a script element. `window.location` cannot be replaced: scripts are changed on their way
// (javascript.py) to read it through `__hatchway`, and to import through `__hatchwayImport`.
(function hatchway(PREFIX, HOSTS) {
  "use strict";

  function install(global, home) {
    if (global.__hatchway) return;

    var place = global.location;
    var doc = global.document;
    var NativeURL = global.URL;
    var here = home;
    if (!here) {
      var href = String(place.href).replace(/^blob:/, "");
      try { here = new NativeURL(href); } catch (e) { return; }
      if (!/^https?:$/.test(here.protocol)) return;
    }
    var secure = here.protocol === "https:";

    //= vocabulary
    //= addresses
    //= tools
    //= location
    //= requests
    //= code
    //= text
    //= workers
    //= cookies

    if (!doc) return;

    //= document
    //= markup
    //= elements
    //= sinks
    //= styles
    //= windows
  }

  install(self);
})("/__PREFIX__", ["__HOSTS__"]);
