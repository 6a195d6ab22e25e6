#pragma once

#include <concepts>

namespace kindred::internal {

class Encoder;
class Decoder;

/// How a type of kindred's own crosses a process border: specialise it next to the type. It wins over every
/// other way.
///
/// ```
/// template <>
/// struct kindred::internal::CodecTraits<Mutex> {
///   static constexpr bool crosses = true;             // false: refused at compile time
///   static void encode(Encoder& encoder, const Mutex& mutex);
///   static Mutex decode(Decoder& decoder);            // checks all that it reads: the writer may be hostile
/// };
/// ```
template <class T>
struct CodecTraits;

/// `CodecTraits<T>` is specialised, to carry `T` or to refuse it.
template <class T>
concept HasCodecTraits = requires {
  { CodecTraits<T>::crosses } -> std::convertible_to<bool>;
};

/// `CodecTraits<T>` is specialised, and carries `T`.
template <class T>
concept CrossesByTraits = HasCodecTraits<T> && CodecTraits<T>::crosses &&
                          requires(Encoder& encoder, Decoder& decoder, const T& value) {
                            CodecTraits<T>::encode(encoder, value);
                            { CodecTraits<T>::decode(decoder) } -> std::same_as<T>;
                          };

}  // namespace kindred::internal
