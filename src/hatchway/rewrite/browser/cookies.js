// Cookies that scripts write and read: `Path` gets the prefix, `__Host-` names are changed as in cookies.py.

function cookie(text) {
  text = String(text).replace(/^\s*__Host-/i, "__Hatchway-Host-").replace(/;\s*domain\s*=[^;]*/gi, "");
  return text.replace(/(;\s*path\s*=\s*)(\/[^;]*)/gi, function (all, name, path) {
    path = path.trim();
    return name + (has(path) ? path : PREFIX + (path === "/" ? "" : path));
  });
}
accessor("Document", "cookie", function (text) {
  return text.replace(/(^|; )__Hatchway-Host-/g, "$1__Host-");
}, cookie);
if (global.CookieStore) {
  var path = function (given) {
    given = String(given || "/");
    return has(given) ? given : PREFIX + (given === "/" ? "" : given);
  };
  var hidden = function (name) { return String(name).replace(/^__Host-/i, "__Hatchway-Host-"); };
  var shown = function (found) {
    if (!found) return found;
    if (found.name) found.name = found.name.replace(/^__Hatchway-Host-/, "__Host-");
    if (found.path) found.path = del(found.path);
    return found;
  };
  var asked = function (args) {
    if (typeof args[0] === "string") args[0] = hidden(args[0]);
    else if (args[0] && args[0].name !== undefined) args[0] = Object.assign({}, args[0], { name: hidden(args[0].name) });
  };
  method(global.CookieStore.prototype, "set", function (args) {
    var given = args.length > 1 ? { name: args[0], value: args[1] } : Object.assign({}, args[0]);
    given.name = hidden(given.name);
    given.path = path(given.path);
    delete given.domain;
    args.length = 0;
    args.push(given);
  });
  method(global.CookieStore.prototype, "delete", function (args) {
    var given = typeof args[0] === "string" ? { name: args[0] } : Object.assign({}, args[0]);
    given.name = hidden(given.name);
    given.path = path(given.path);
    args[0] = given;
  });
  ["get", "getAll"].forEach(function (name) {
    method(global.CookieStore.prototype, name, asked);
    result(global.CookieStore.prototype, name, function (promise) {
      return promise.then(function (found) {
        if (Array.isArray(found)) found.forEach(shown);
        return name === "get" ? shown(found) : found;
      });
    });
  });
}
