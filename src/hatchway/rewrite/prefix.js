// Makes an application's scripts work under a path prefix.
//
// The application is written for the root of a host. `add` puts the prefix before each address that a script passes to
// the browser; `del` removes the prefix from each address that a script reads. Both functions are idempotent. Addresses
// of other hosts, `data:` and `blob:` are not changed.
//
// script.py builds the served script from this file: each `//= NAME` is replaced by browser/NAME.js, all in the scope
// of one function, and `//= vocabulary` by the lists of vocabulary.py. Comments and indentation are removed, and the
// two arguments at the end are filled in. The script runs first in every document (inline), and at the beginning
// of every worker's script. So it must not have block comments, texts of several lines, or the characters that end a
// script element. `window.location` cannot be replaced. Therefore javascript.py changes scripts on their way to the
// browser: they read the location through `__hatchway`, and import modules through `__hatchwayImport`.
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
