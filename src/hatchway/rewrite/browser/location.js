// `location` as the application must see it: without the prefix.

var wrappers = new WeakMap();

function wrap(location) {
  var known = wrappers.get(location);
  if (known) return known;
  var wrapper = Object.create(Object.getPrototypeOf(location));
  var methods = {
    assign: function assign(url) { location.assign(add(String(url))); },
    replace: function replace(url) { location.replace(add(String(url))); },
    reload: function reload() { location.reload(); },
    toString: function toString() { return del(location.href); },
    valueOf: function valueOf() { return wrapper; },
  };
  // The wrapper has the same own properties as a Location, in the same order.
  Reflect.ownKeys(location).forEach(function (name) {
    var found = Object.getOwnPropertyDescriptor(location, name);
    var ours = { enumerable: found.enumerable, configurable: false };
    if (!found.get) {
      ours.value = Object.prototype.hasOwnProperty.call(methods, name) ? methods[name] : found.value;
      ours.writable = false;
    } else if (name === "href") {
      ours.get = function () { return del(location.href); };
      ours.set = function (value) { location.href = add(String(value)); };
    } else if (name === "pathname") {
      ours.get = function () { return del(location.pathname); };
      ours.set = function (value) { location.pathname = under(("/" + value).replace(/^\/+/, "/")); };
    } else {
      ours.get = function () { return location[name]; };
      if (found.set) ours.set = function (value) { location[name] = value; };
    }
    Object.defineProperty(wrapper, name, ours);
  });
  wrappers.set(location, wrapper);
  wrappers.set(wrapper, wrapper);
  return wrapper;
}

function ownLocation(value) {
  if (value === null || typeof value !== "object" || (value instanceof Object && value !== place)) return value;
  if (value === place) return doc ? wrap(place) : place;
  // The value may be the Location of another window. Reading it is an error if that window has another origin.
  try {
    if (Object.prototype.toString.call(value) === "[object Location]") return wrap(value);
  } catch (e) {}
  return value;
}
define(global, "__hatchway", ownLocation);
if (!doc) {
  // The properties of a worker's location are on its prototype.
  accessor("WorkerLocation", "href", del);
  accessor("WorkerLocation", "pathname", del);
  if (global.WorkerLocation) define(global.WorkerLocation.prototype, "toString", function toString() { return this.href; });
}

// Rewritten code reads `f().location.__hatchwaySelf`, because the result of f may be a window, and `__hatchwayLocation`
// in patterns. All objects get these two properties, except windows of other origins and objects without a prototype.
function shared(name, get, set) {
  // `global` may be another window than the window that has loaded this script.
  if (name in global.Object.prototype) return;
  Object.defineProperty(global.Object.prototype, name, { get: get, set: set, configurable: true });
}
shared("__hatchwaySelf", function () { return ownLocation(this); });
shared("__hatchwayLocation", function () { return ownLocation(this.location); });

// Functions that read `location` by reflection.
var getOf = global.Reflect.get;
define(global.Reflect, "get", function get(target, key) {
  var value = arguments.length > 2 ? getOf(target, key, arguments[2]) : getOf(target, key);
  return key === "location" ? ownLocation(value) : value;
});
function described(found) {
  if (!found || !found.get || !/^(?:get )?location$/.test(found.get.name)) return found;
  found.get = new Proxy(found.get, {
    apply: function (target, self, args) { return ownLocation(Reflect.apply(target, self, args)); },
  });
  return found;
}
[global.Object, global.Reflect].forEach(function (one) {
  result(one, "getOwnPropertyDescriptor", function (found, self, args) {
    return args[1] === "location" ? described(found) : found;
  });
});
result(global.Object, "getOwnPropertyDescriptors", function (all) {
  if (all.location) described(all.location);
  return all;
});
result(global.Object.prototype, "__lookupGetter__", function (found, self, args) {
  return args[0] === "location" && found ? described({ get: found }).get : found;
});

define(global, "__hatchwayImport", function (load, url) {
  return load(add(url));
});

// Change `import.meta`, once for each module.
var metas = new WeakSet();
define(global, "__hatchwayMeta", function (meta) {
  if (metas.has(meta)) return meta;
  metas.add(meta);
  var resolve = meta.resolve;
  if (typeof meta.url === "string") meta.url = del(meta.url);
  if (typeof resolve === "function") meta.resolve = function (name) { return del(resolve(add(name))); };
  return meta;
});
