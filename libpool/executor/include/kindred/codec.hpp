#pragma once

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/codec_traits.hpp"

namespace kindred::internal {

/// Appends `value`. Errors: what the value's own `serialize` throws, `UsageError` for a handle of another context.
template <class T>
  requires CrossesByTraits<T>
void encode(Encoder& encoder, const T& value) {
  CodecTraits<T>::encode(encoder, value);
}

/// Reads what `encode` wrote. Errors: `DecodeError` where the bytes hold no `T`, what the value's own `serialize` throws.
template <class T>
  requires CrossesByTraits<T>
[[nodiscard]] T decode(Decoder& decoder) {
  return CodecTraits<T>::decode(decoder);
}

}  // namespace kindred::internal
