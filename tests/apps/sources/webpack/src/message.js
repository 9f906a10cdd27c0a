export default "first";
