// For pages under a host name of their own: requests of scripts to the application's own address go to the door
// instead.
//
// A script may compose an address from `location.hostname` and the port on which the application listens. The page's
// text does not contain such an address, so the door cannot change it on its way to the browser. HOSTS: `host:port`
// texts that can only mean the application. The door inserts this script before the first script of a page
// (ownaddress.py); this script removes its own element.
(function (HOSTS) {
  "use strict";
  var place = location, own = Object.create(null), element = document.currentScript;
  if (element) element.remove();
  if (!/^https?:$/.test(place.protocol)) return;
  HOSTS.forEach(function (host) {
    try { own[new URL("http://" + host).host] = true; } catch (e) { return; }
  });

  // Return the address at the door for an address of the application; other values unchanged.
  function at_door(address) {
    var url;
    try { url = new URL(address, document.baseURI); } catch (e) { return address; }
    var kind = /^(ws|http)s?:$/.exec(url.protocol);
    if (!kind || !own[url.host] || url.username) return address;
    var secure = place.protocol === "https:" ? "s:" : ":";
    if (url.host === place.host && url.protocol === kind[1] + secure) return address;
    return kind[1] + secure + "//" + place.host + url.pathname + url.search + url.hash;
  }

  // Change the address in `args[index]`. A Request was changed already when it was made.
  function changed(args, index) {
    if (typeof args[index] === "string" || args[index] instanceof URL) args[index] = at_door(args[index]);
    return args;
  }

  ["WebSocket", "EventSource", "Request"].forEach(function (name) {
    if (!self[name]) return;
    self[name] = new Proxy(self[name], {
      construct: function (native, args, target) {
        return Reflect.construct(native, changed(args, 0), target);
      }
    });
  });
  self.fetch = new Proxy(self.fetch, {
    apply: function (native, self_, args) { return Reflect.apply(native, self_, changed(args, 0)); }
  });
  XMLHttpRequest.prototype.open = new Proxy(XMLHttpRequest.prototype.open, {
    apply: function (native, self_, args) { return Reflect.apply(native, self_, changed(args, 1)); }
  });
})(["__HOSTS__"]);
