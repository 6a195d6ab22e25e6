#pragma once

#include "kindred/internal/codec_refusal.hpp"
#include "kindred/internal/codec_stream.hpp"
#include "kindred/internal/codec_traits.hpp"
#include "kindred/internal/codec_values.hpp"

// How arguments and results cross to another process: which types do, and as which bytes.
//
// What crosses, and as what:
//
// | type | crosses as |
// | --- | --- |
// | shared objects, SharedArray | a handle to the same object |
// | a type with cereal's serialize, save/load, save_minimal/... | what these write, before all below |
// | numbers, enums, std::byte, chrono, complex, trivially copyable | their bytes; one copy for a container |
// | string, the standard's containers and adaptors | their elements |
// | bitset, valarray | their elements |
// | pair, tuple, optional, variant, array | their parts |
// | unique_ptr, shared_ptr | null or the value: two shared_ptr to one object arrive as two |
// | filesystem::path, error_code, error_condition | text; number and category (the standard's) |
// | aggregates | member by member (Boost.PFR) |
// | runtime_error, logic_error and their kin without members | their text |
//
// Pointers, references, views, iterators, locks, streams, futures, loggers do not compile, and neither does a
// class that holds one where it can be seen: in an aggregate or a container, but not behind `private`. A
// value nests 500 levels at most.

namespace kindred::internal {

/// Appends `value`. Errors: what the value's own `serialize` throws; `UsageError` for a handle of another
/// context, a variant without value, an error category that another process does not know, or a value nested
/// too deep. Bytes may have been written then.
template <class T>
inline void encode(Encoder& encoder, const T& value) {
  if constexpr (check_argument<T>()) put(encoder, value);
}

/// Reads what `encode` wrote. Errors: `DecodeError` where the bytes hold no `T`; what the value's own
/// `serialize` throws.
template <class T>
[[nodiscard]] inline T decode(Decoder& decoder) {
  if constexpr (check_argument<T>()) return get<T>(decoder);
}

}  // namespace kindred::internal
