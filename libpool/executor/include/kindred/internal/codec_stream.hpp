#pragma once

#include <cstdint>

#include "kindred/internal/byte_stream.hpp"

namespace kindred::internal {

/// How deep a value may nest: a list of unique_ptr, a tree. Each level takes some hundred bytes of stack, and
/// the writer chooses the depth.
inline constexpr std::uint32_t nesting_limit = 500;

[[noreturn]] void throw_nested_too_deep();   ///< UsageError: the value at hand
[[noreturn]] void throw_message_too_deep();  ///< DecodeError: the message

/// One level of nesting, while it lives.
class Nesting {
 public:
  explicit Nesting(Encoder& encoder) : depth_{encoder.depth()} {
    if (depth_ == nesting_limit) [[unlikely]]
      throw_nested_too_deep();
    ++depth_;
  }
  explicit Nesting(Decoder& decoder) : depth_{decoder.depth()} {
    if (depth_ == nesting_limit) [[unlikely]]
      throw_message_too_deep();
    ++depth_;
  }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  ~Nesting() { --depth_; }

 private:
  std::uint32_t& depth_;
};

// What values are written to and read from: an encoder or decoder, or an archive on one (see
// codec_cereal.hpp), which the parts of a value with a word of its own must see so that shared pointers stay
// shared.
inline Encoder& stream(Encoder& encoder) noexcept { return encoder; }
inline Decoder& stream(Decoder& decoder) noexcept { return decoder; }

template <class Writer, class T>
void put(Writer& writer, const T& value);
template <class T, class Reader>
T get(Reader& reader);
/// Reads into an object that is there, in place where its type has a word of its own.
template <class Reader, class T>
void get_into(Reader& reader, T& value);

}  // namespace kindred::internal
