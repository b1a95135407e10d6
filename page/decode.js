/* Weights out of base64, and counts, which are compressed, too. */
"use strict";

/** The bytes of base64, also where the browser has neither fromBase64 nor atob. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  const values = new Uint8Array(128);
  for (let i = 0; i < 64; i++) {
    values["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".charCodeAt(i)] = i;
  }
  for (let i = 0, out = 0; i < text.length; i += 4) {
    let word = 0;
    for (let k = 0; k < 4; k++) word = (word << 6) | values[text.charCodeAt(i + k) & 127];
    for (let k = 16; k >= 0 && out < bytes.length; k -= 8) bytes[out++] = word >> k;
  }
  return bytes;
}

/** Base64 of little-endian float16 or float32 -> Float32Array. */
function weightsOf(text, dtype) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const size = dtype === "float16" ? 2 : 4;
  const out = new Float32Array(bytes.length / size);
  if (size === 4) for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(4 * i, true);
  else {
    const table = Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
    for (let i = 0; i < out.length; i++) out[i] = table[view.getUint16(2 * i, true)];
  }
  return out;
}

/** The bytes that zlib compressed. */
async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The number that the 16 bits of a float16 stand for (IEEE 754). */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
}
