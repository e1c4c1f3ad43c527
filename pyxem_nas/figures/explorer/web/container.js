// The container that container.py writes: bytes -> header and typed arrays.

const ARRAY_TYPES = {
  u1: Uint8Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array,
};

export function decodeBase64(text) {
  const characters = atob(text.trim());
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function openContainer(bytes) {
  const block = await inflate(bytes);
  const length = new DataView(block.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(block.subarray(4, 4 + length)));
  const arrays = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(header.arrays)) {
    const size = shape.reduce((product, n) => product * n, 1);
    arrays[name] = new ARRAY_TYPES[dtype](block.buffer, 4 + length + offset, size);
  }
  return { header, arrays };
}

// Embedded patterns, chunk by chunk; readChunk(k) gives the compressed bytes of chunk k.
export function embeddedSource(header, arrays, readChunk) {
  const { per_chunk: perChunk, shape, factor, levels } = header;
  const positions = arrays.pattern_position;
  const chunks = new Map();
  const indexOf = new Map(Array.from(positions, (position, k) => [position, k]));
  const size = shape[0] * shape[1];
  return {
    isLive: false,
    positions,
    has: (position) => indexOf.has(position),
    async read(position) {
      const k = indexOf.get(position);
      const chunk = Math.floor(k / perChunk);
      if (!chunks.has(chunk)) {
        if (chunks.size > 8) chunks.delete(chunks.keys().next().value);
        chunks.set(chunk, inflate(readChunk(chunk)));
      }
      const block = await chunks.get(chunk);
      const start = (k % perChunk) * size;
      return {
        levels: block.subarray(start, start + size),
        shape,
        factor,
        highest: levels - 1,
        scale: arrays.pattern_scale[k],
        center: [arrays.pattern_center[2 * k], arrays.pattern_center[2 * k + 1]],
      };
    },
  };
}
