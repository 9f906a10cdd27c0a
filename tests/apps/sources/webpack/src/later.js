export default "loaded when needed";
