// Functions that replace methods, constructors and accessors of the browser.

var native = {};

function define(object, name, value) {
  try {
    Object.defineProperty(object, name, { value: value, configurable: true, enumerable: false, writable: true });
  } catch (e) {}
}

// Replace a method: `map` changes the array of arguments in place before the call.
function method(object, name, map) {
  // In a worker, global functions are properties of prototypes.
  while (object && !Object.prototype.hasOwnProperty.call(object, name)) object = Object.getPrototypeOf(object);
  var found = object && Object.getOwnPropertyDescriptor(object, name);
  if (!found || typeof found.value !== "function" || !found.configurable) return;
  found.value = new Proxy(found.value, {
    apply: function (target, self, args) {
      map(args, self);
      return Reflect.apply(target, self, args);
    },
  });
  Object.defineProperty(object, name, found);
}

function first(args) { if (args.length) args[0] = add(args[0]); }
function second(args) { if (args.length > 1) args[1] = add(args[1]); }

function constructor(name, map) {
  var Native = global[name];
  if (typeof Native !== "function") return;
  var Ours = new Proxy(Native, {
    construct: function (target, args, newTarget) {
      map(args);
      return Reflect.construct(target, args, newTarget === Ours ? target : newTarget);
    },
  });
  define(global, name, Ours);
  if (Native.prototype) define(Native.prototype, "constructor", Ours);
}

// Replace a method: the new method returns `map(result, object, arguments)`.
function result(object, name, map) {
  var found = object && Object.getOwnPropertyDescriptor(object, name);
  if (!found || typeof found.value !== "function" || !found.configurable) return;
  found.value = new Proxy(found.value, {
    apply: function (target, self, args) { return map(Reflect.apply(target, self, args), self, args); },
  });
  Object.defineProperty(object, name, found);
}

// Replace an accessor: `read(value, object)` returns the value that scripts read, `write(value, object)` the value that
// is set. Both are optional.
function accessor(type, name, read, write) {
  var proto = typeof type === "string" ? global[type] && global[type].prototype : type;
  var found = proto && Object.getOwnPropertyDescriptor(proto, name);
  if (!found || !found.configurable || !found.get) return;
  var get = found.get, set = found.set;
  if (read) found.get = function () { return read(get.call(this), this); };
  if (set && write) found.set = function (value) { set.call(this, write(value, this)); };
  Object.defineProperty(proto, name, found);
}

function getter(type, name) {
  var found = global[type] && Object.getOwnPropertyDescriptor(global[type].prototype, name);
  return found && found.get;
}
