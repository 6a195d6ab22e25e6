#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kindred/internal/codec_refusal.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/large_pages.hpp"

// How each kind of value is written and read. Reading is hardened: the writer may be hostile. Nothing that is
// read decides how much memory is taken, beyond a multiple of the message's own size, nor how deep the stack
// grows.

namespace kindred::internal {

[[noreturn]] void throw_bad_byte(const char* what,
                                 unsigned value);  ///< DecodeError: "a bool that is neither 0 nor 1: 7"
[[noreturn]] void throw_valueless_variant();       ///< UsageError
[[noreturn]] void throw_colliding_keys();          ///< DecodeError
/// The number of one of the standard's four error categories, or `unknown_category`.
[[nodiscard]] std::uint8_t category_number(const std::error_category& category) noexcept;
[[nodiscard]] const std::error_category& standard_category(std::uint8_t number);
inline constexpr std::uint8_t unknown_category = 4;
void put_error_category(Encoder& encoder, const std::error_category& category);
[[nodiscard]] const std::error_category& get_error_category(Decoder& decoder);

// --- bytes

template <class T>
T get_bytes(Decoder& decoder) {
  if constexpr (std::is_trivially_default_constructible_v<T> && !std::is_const_v<T>) {
    return decoder.read_value<T>();
  } else {
    std::array<std::byte, sizeof(T)> bytes;
    decoder.read(bytes.data(), bytes.size());
    return std::bit_cast<T>(bytes);
  }
}

inline std::uint8_t get_byte(Decoder& decoder, unsigned limit, const char* what) {
  const auto byte = decoder.read_value<std::uint8_t>();
  if (byte >= limit) [[unlikely]]
    throw_bad_byte(what, byte);
  return byte;
}

/// Elements that lie side by side and are written as their bytes: one copy, however many.
template <class T>
void put_block(Encoder& encoder, const T* elements, std::size_t count) {
  encoder.reserve(sizeof(std::uint64_t) + count * sizeof(T));
  encoder.write_value(static_cast<std::uint64_t>(count));
  encoder.write(elements, count * sizeof(T));
}

/// Fills an empty container with elements, as `copy_bytes` copies.
template <class Container, class T>
void assign_elements(Container& container, const T* first, std::size_t count) {
  if constexpr (requires { container.reserve(count), container.insert(container.end(), first, first); }) {
    if (copied_in_pieces(count * sizeof(T))) {
      container.reserve(count);
      for (std::size_t some; count != 0; first += some, count -= some) {
        some = std::min(count, std::max<std::size_t>(1, copy_piece / sizeof(T)));
        container.insert(container.end(), first, first + some);
      }
      return;
    }
  }
  container.assign(first, first + count);
}

/// Fills an empty container with `count` elements from the message.
template <class Container>
void get_block(Decoder& decoder, Container& container, std::size_t count) {
  using T = typename Container::value_type;
  const auto bytes = decoder.take(count * sizeof(T));
  // Copied as elements where they are aligned: that is one copy into memory that was not cleared before.
  // (`resize` would.)
  if (std::is_trivial_v<T> && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0) {
    const auto* first = reinterpret_cast<const T*>(bytes.data());
    if constexpr (requires { container.reserve(count), container.data(); }) {
      if (bytes.size() >= worth_large_pages) [[unlikely]] {
        container.reserve(count);
        prefer_large_pages_in(container.data(), bytes.size());
      }
    }
    assign_elements(container, first, count);
    return;
  }
  if constexpr (requires { container.reserve(count); }) container.reserve(count);
  if constexpr (std::is_trivial_v<T>) {
    constexpr std::size_t at_once = std::max<std::size_t>(1, 4096 / sizeof(T));
    std::array<T, at_once> aligned;  // NOLINT: filled below
    for (std::size_t done = 0; done != count;) {
      const auto some = std::min(at_once, count - done);
      std::memcpy(aligned.data(), bytes.data() + done * sizeof(T), some * sizeof(T));
      container.insert(container.end(), aligned.data(), aligned.data() + some);
      done += some;
    }
  } else {
    for (std::size_t i = 0; i != count; ++i) {
      std::array<std::byte, sizeof(T)> element;
      std::memcpy(element.data(), bytes.data() + i * sizeof(T), sizeof(T));
      container.push_back(std::bit_cast<T>(element));
    }
  }
}

// --- elements

template <class T>
inline constexpr std::size_t element_bytes = std::max<std::size_t>(1, min_bytes<T>());

/// An element that may take no bytes at all gets one, so that the message bounds how many there are.
template <class Writer, class T>
void put_element(Writer& writer, const T& value) {
  if constexpr (min_bytes<T>() == 0) stream(writer).write_value(std::uint8_t{0});
  put(writer, value);
}
template <class T, class Reader>
T get_element(Reader& reader) {
  if constexpr (min_bytes<T>() == 0)
    static_cast<void>(get_byte(stream(reader), 1, "the mark before an element"));
  return get<T>(reader);
}

/// Makes room for elements to come, but never for more memory than the message is long: each may be much
/// larger than its bytes.
template <class Container>
void reserve_for(Container& container, std::size_t count, const Decoder& decoder) {
  if constexpr (requires { container.reserve(count); }) {
    container.reserve(std::min(count, decoder.left() / sizeof(typename Container::value_type) + 1));
  }
}

template <class Writer, class T>
void put_sequence(Writer& writer, const T& sequence) {
  using Element = typename T::value_type;
  Encoder& encoder = stream(writer);
  if constexpr (kind<Element>() == Kind::bytes && requires { sequence.data(); }) {
    put_block(encoder, sequence.data(), sequence.size());
  } else {
    const Nesting level{encoder};
    encoder.write_value(static_cast<std::uint64_t>(sequence.size()));
    for (const auto& element : sequence) put_element(writer, element);
  }
}

template <class T, class Reader>
T get_sequence(Reader& reader) {
  using Element = typename T::value_type;
  Decoder& decoder = stream(reader);
  T sequence;
  if constexpr (kind<Element>() == Kind::bytes) {
    get_block(decoder, sequence, decoder.read_count(sizeof(Element)));
  } else {
    const Nesting level{decoder};
    const auto count = decoder.read_count(element_bytes<Element>);
    reserve_for(sequence, count, decoder);
    for (std::size_t i = 0; i != count; ++i) sequence.push_back(get_element<Element>(reader));
  }
  return sequence;
}

template <class Writer, class T>
void put_forward_list(Writer& writer, const T& list) {
  const Nesting level{stream(writer)};
  std::uint64_t count = 0;
  for (auto at = list.begin(); at != list.end(); ++at) ++count;
  stream(writer).write_value(count);
  for (const auto& element : list) put_element(writer, element);
}
template <class T, class Reader>
T get_forward_list(Reader& reader) {
  using Element = typename T::value_type;
  const Nesting level{stream(reader)};
  const auto count = stream(reader).read_count(element_bytes<Element>);
  T list;
  auto last = list.before_begin();
  for (std::size_t i = 0; i != count; ++i) last = list.insert_after(last, get_element<Element>(reader));
  return list;
}

/// Bounds what it costs to fill a hash table: keys that collide, by bad luck or because a task means harm,
/// make each insertion a walk through all that are there, and a message of 1 MiB a matter of 20 seconds. The
/// walks are measured for one key in 16, by chance, so that no message can be written to avoid it. Allowed
/// are 32 steps a key, and four million more a message (some tens of milliseconds).
template <class T>
class HashWork {
 public:
  static constexpr std::size_t few = 256;  ///< are not worth a look
  static constexpr std::uint32_t max_steps = 4'000'000;

  HashWork(std::size_t count, Decoder& decoder) noexcept : spent_{decoder.hash_steps()} {
    if (count <= few) return;
    allowed_ = 32 * static_cast<std::uint64_t>(count);
    chance_ = static_cast<std::uint32_t>(std::chrono::steady_clock::now().time_since_epoch().count()) | 1U;
  }
  HashWork(const HashWork&) = delete;
  HashWork& operator=(const HashWork&) = delete;
  ~HashWork() { spent_ += static_cast<std::uint32_t>(steps_ > allowed_ ? steps_ - allowed_ : 0); }

  /// Call before each insertion of a `key`. Errors: `DecodeError` where the allowance is used up.
  template <class Key>
  void count(const T& table, const Key& key) {
    if constexpr (requires { table.begin(table.bucket(key)), table.key_eq()(key, key); }) {
      if (chance_ == 0) return;
      chance_ ^= chance_ << 13U, chance_ ^= chance_ >> 17U, chance_ ^= chance_ << 5U;  // Marsaglia's xorshift
      if (chance_ % 16 == 0) walk(table, key);
    }
  }

 private:
  template <class Key>
  void walk(const T& table, const Key& key) {
    if (table.bucket_count() == 0) return;
    const auto bucket = table.bucket(key);
    const auto equal = table.key_eq();
    for (auto at = table.begin(bucket); at != table.end(bucket); ++at) {
      steps_ += 16;
      if (steps_ > allowed_ + max_steps - spent_) throw_colliding_keys();
      if constexpr (requires { at->first; } &&
                    !std::is_same_v<typename T::key_type, typename T::value_type>) {
        if (equal(at->first, key)) return;
      } else {
        if (equal(*at, key)) return;
      }
    }
  }

  std::uint32_t& spent_;
  std::uint64_t allowed_ = 0;
  std::uint64_t steps_ = 0;
  std::uint32_t chance_ = 0;  // 0: nothing is looked at
};

template <class Writer, class T>
void put_set(Writer& writer, const T& set) {
  const Nesting level{stream(writer)};
  stream(writer).write_value(static_cast<std::uint64_t>(set.size()));
  for (const auto& key : set) put_element(writer, key);
}
template <class T, class Reader>
T get_set(Reader& reader) {
  using Key = typename T::key_type;
  const Nesting level{stream(reader)};
  const auto count = stream(reader).read_count(element_bytes<Key>);
  T set;
  reserve_for(set, count, stream(reader));
  HashWork<T> work{count, stream(reader)};
  for (std::size_t i = 0; i != count; ++i) {
    auto key = get_element<Key>(reader);
    work.count(set, key);
    set.emplace_hint(set.end(), std::move(key));
  }
  return set;
}

template <class Writer, class T>
void put_map(Writer& writer, const T& map) {
  const Nesting level{stream(writer)};
  stream(writer).write_value(static_cast<std::uint64_t>(map.size()));
  for (const auto& [key, mapped] : map) {
    put_element(writer, key);
    put(writer, mapped);
  }
}
template <class T, class Reader>
T get_map(Reader& reader) {
  using Key = typename T::key_type;
  using Mapped = typename T::mapped_type;
  const Nesting level{stream(reader)};
  const auto count = stream(reader).read_count(element_bytes<Key> + min_bytes<Mapped>());
  T map;
  reserve_for(map, count, stream(reader));
  HashWork<T> work{count, stream(reader)};
  for (std::size_t i = 0; i != count; ++i) {
    auto key = get_element<Key>(reader);
    auto mapped = get<Mapped>(reader);
    work.count(map, key);
    map.emplace_hint(map.end(), std::move(key), std::move(mapped));
  }
  return map;
}

template <class A>
void put_bits(Encoder& encoder, const std::vector<bool, A>& bits) {
  encoder.write_value(static_cast<std::uint64_t>(bits.size()));
  encoder.reserve((bits.size() + 7) / 8);
  for (std::size_t i = 0; i < bits.size();) {
    unsigned byte = 0;
    for (unsigned bit = 0; bit != 8 && i < bits.size(); ++bit, ++i)
      byte |= static_cast<unsigned>(bits[i]) << bit;
    encoder.write_value(static_cast<std::uint8_t>(byte));
  }
}
template <class T>
T get_bits(Decoder& decoder) {
  const auto count = decoder.read_value<std::uint64_t>();
  const auto bytes = decoder.take(static_cast<std::size_t>(count / 8 + (count % 8 == 0 ? 0 : 1)));
  T bits(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i != bits.size(); ++i)
    bits[i] = (std::to_integer<unsigned>(bytes[i / 8]) >> (i % 8) & 1U) != 0;
  return bits;
}

template <class T, class Reader, std::size_t... I>
T get_array(Reader& reader, std::index_sequence<I...>) {
  return T{{(static_cast<void>(I), get<typename T::value_type>(reader))...}};
}

// --- alternatives

template <class T>
struct Alternatives;
template <template <class...> class Variant, class... T>
struct Alternatives<Variant<T...>> {
  using Index = std::conditional_t<(sizeof...(T) < 256), std::uint8_t, std::uint16_t>;

  template <class Writer, std::size_t... I>
  static void put_alternative(Writer& writer, const Variant<T...>& variant, std::index_sequence<I...>) {
    // Writes the one that the variant holds. get_if is found by argument-dependent lookup, so that this
    // header need not include <variant>.
    ((variant.index() == I ? put(writer, *get_if<I>(&variant)) : void()), ...);
  }
  template <std::size_t i, class Reader>
  static Variant<T...> get_alternative(Reader& reader) {
    return Variant<T...>{std::in_place_index<i>, get<std::tuple_element_t<i, std::tuple<T...>>>(reader)};
  }
  template <class Reader, std::size_t... I>
  static Variant<T...> get_indexed(Reader& reader, std::size_t index, std::index_sequence<I...>) {
    using Function = Variant<T...> (*)(Reader&);
    static constexpr Function functions[] = {&get_alternative<I, Reader>...};
    return functions[index](reader);
  }
};

template <class Writer, class T>
void put_variant(Writer& writer, const T& variant) {
  using Types = Alternatives<T>;
  if (variant.valueless_by_exception()) throw_valueless_variant();
  stream(writer).write_value(static_cast<typename Types::Index>(variant.index()));
  [&]<template <class...> class Variant, class... A>(const Variant<A...>&) {
    Types::put_alternative(writer, variant, std::index_sequence_for<A...>{});
  }(variant);
}
template <class T, class Reader>
T get_variant(Reader& reader) {
  using Types = Alternatives<T>;
  return [&]<template <class...> class Variant, class... A>(const Variant<A...>*) {
    const auto index = stream(reader).template read_value<typename Types::Index>();
    if (index >= sizeof...(A)) [[unlikely]]
      throw_bad_byte("the index of a variant", index);
    return Types::get_indexed(reader, index, std::index_sequence_for<A...>{});
  }(static_cast<const T*>(nullptr));
}

template <class T, class Reader>
T get_pointer(Reader& reader) {
  using Value = std::remove_cv_t<typename T::element_type>;
  if (get_byte(stream(reader), 2, "the mark of a pointer") == 0) return T{};
  const Nesting level{stream(reader)};
  return T{new Value(get<Value>(reader))};
}

// --- members

template <class Writer, class T, std::size_t... I>
void put_fields(Writer& writer, const T& value, std::index_sequence<I...>) {
  [[maybe_unused]] const auto fields = fields_of(value);
  (put(writer, field<I>(fields)), ...);
}
template <class T, class Reader, std::size_t... I>
T get_fields([[maybe_unused]] Reader& reader, std::index_sequence<I...>) {
  return T{get<FieldOf<T, I>>(reader)...};  // in order: braces say so
}
template <class T, class Reader, std::size_t... I>
T get_tuple([[maybe_unused]] Reader& reader, std::index_sequence<I...>) {
  return T{get<std::remove_cv_t<std::tuple_element_t<I, T>>>(reader)...};
}

/// The container inside a std::stack, queue or priority_queue, which is a protected member.
template <class T>
struct AdaptorContainer : T {
  static typename T::container_type& of(T& adaptor) { return adaptor.*(&AdaptorContainer::c); }
  static const typename T::container_type& of(const T& adaptor) { return adaptor.*(&AdaptorContainer::c); }
};

// --- one value

/// How the values of a kind are written and read. Each has
///     put(writer, value)
///     get<T>(reader)
template <Kind k>
struct Shape;

template <>
struct Shape<Kind::bytes> {
  static void put(auto& writer, const auto& value) { stream(writer).write_value(value); }
  template <class T>
  static T get(auto& reader) {
    return get_bytes<T>(stream(reader));
  }
};

template <>
struct Shape<Kind::boolean> {
  static void put(auto& writer, const auto& value) {
    stream(writer).write_value(static_cast<std::uint8_t>(value));
  }
  template <class T>
  static T get(auto& reader) {
    return get_byte(stream(reader), 2, "a bool") != 0;
  }
};

template <>
struct Shape<Kind::bitset> {
  static void put(auto& writer, const auto& value) { stream(writer).write_value(value); }
  template <class T>
  static T get(auto& reader) {
    return stream(reader).template read_value<T>() & ~T{};  // the bits beyond its size must be 0
  }
};

template <>
struct Shape<Kind::bits> {
  static void put(auto& writer, const auto& value) { put_bits(stream(writer), value); }
  template <class T>
  static T get(auto& reader) {
    return get_bits<T>(stream(reader));
  }
};

template <>
struct Shape<Kind::traits> {
  template <class T>
  static void put(auto& writer, const T& value) {
    CodecTraits<T>::encode(stream(writer), value);
  }
  template <class T>
  static T get(auto& reader) {
    return CodecTraits<T>::decode(stream(reader));
  }
};

template <>
struct Shape<Kind::cereal> {
  static void put(auto& writer, const auto& value) { put_with_word(writer, value); }
  template <class T>
  static T get(auto& reader) {
    if constexpr (std::is_default_constructible_v<T>) {
      T value = T();
      get_with_word(reader, value);
      return value;
    } else {
      // A private default constructor, for cereal::access.
      const std::unique_ptr<T> value{InputArchiveFor<T>::access::template construct<T>()};
      get_with_word(reader, *value);
      return std::move(*value);
    }
  }
};

template <>
struct Shape<Kind::cereal_pointer> {
  static void put(auto& writer, const auto& value) { put_cereal_pointer(writer, value); }
  template <class T>
  static T get(auto& reader) {
    T pointer;
    get_cereal_pointer(reader, pointer);
    return pointer;
  }
};

template <>
struct Shape<Kind::sequence> {
  static void put(auto& writer, const auto& value) { put_sequence(writer, value); }
  template <class T>
  static T get(auto& reader) {
    return get_sequence<T>(reader);
  }
};
template <>
struct Shape<Kind::text> : Shape<Kind::sequence> {};

template <>
struct Shape<Kind::forward_list> {
  static void put(auto& writer, const auto& value) { put_forward_list(writer, value); }
  template <class T>
  static T get(auto& reader) {
    return get_forward_list<T>(reader);
  }
};

template <>
struct Shape<Kind::set> {
  static void put(auto& writer, const auto& value) { put_set(writer, value); }
  template <class T>
  static T get(auto& reader) {
    return get_set<T>(reader);
  }
};

template <>
struct Shape<Kind::map> {
  static void put(auto& writer, const auto& value) { put_map(writer, value); }
  template <class T>
  static T get(auto& reader) {
    return get_map<T>(reader);
  }
};

template <>
struct Shape<Kind::array> {
  static void put(auto& writer, const auto& value) {
    for (const auto& element : value) internal::put(writer, element);
  }
  template <class T>
  static T get(auto& reader) {
    if constexpr (std::is_default_constructible_v<T> && std::tuple_size_v<T> > 16) {
      T array;
      for (auto& element : array) element = internal::get<typename T::value_type>(reader);
      return array;
    } else {
      return get_array<T>(reader, std::make_index_sequence<std::tuple_size_v<T>>{});
    }
  }
};

template <>
struct Shape<Kind::valarray> {
  static void put(auto& writer, const auto& value) {
    stream(writer).write_value(static_cast<std::uint64_t>(value.size()));
    for (std::size_t i = 0; i != value.size(); ++i) put_element(writer, value[i]);
  }
  template <class T>
  static T get(auto& reader) {
    using Element = typename T::value_type;
    T array(stream(reader).read_count(element_bytes<Element>));
    for (auto& element : array) element = get_element<Element>(reader);
    return array;
  }
};

template <>
struct Shape<Kind::adaptor> {
  template <class T>
  static void put(auto& writer, const T& value) {
    internal::put(writer, AdaptorContainer<T>::of(value));
  }
  template <class T>
  static T get(auto& reader) {
    T adaptor;
    AdaptorContainer<T>::of(adaptor) = internal::get<typename T::container_type>(reader);
    return adaptor;
  }
};

template <>
struct Shape<Kind::tuple> {
  static void put(auto& writer, const auto& value) {
    std::apply([&](const auto&... elements) { (internal::put(writer, elements), ...); }, value);
  }
  template <class T>
  static T get(auto& reader) {
    return get_tuple<T>(reader, std::make_index_sequence<std::tuple_size_v<T>>{});
  }
};

template <>
struct Shape<Kind::aggregate> {
  template <class T>
  static void put(auto& writer, const T& value) {
    put_fields(writer, value, FieldIndices<T>{});
  }
  template <class T>
  static T get(auto& reader) {
    return get_fields<T>(reader, FieldIndices<T>{});
  }
};

template <>
struct Shape<Kind::optional> {
  static void put(auto& writer, const auto& value) {
    stream(writer).write_value(static_cast<std::uint8_t>(value.has_value()));
    if (value) internal::put(writer, *value);
  }
  template <class T>
  static T get(auto& reader) {
    if (get_byte(stream(reader), 2, "the mark of an optional") == 0) return T{};
    return T{std::in_place, internal::get<std::remove_cv_t<typename T::value_type>>(reader)};
  }
};

template <>
struct Shape<Kind::variant> {
  static void put(auto& writer, const auto& value) { put_variant(writer, value); }
  template <class T>
  static T get(auto& reader) {
    return get_variant<T>(reader);
  }
};

template <>
struct Shape<Kind::pointer> {
  static void put(auto& writer, const auto& value) {
    stream(writer).write_value(static_cast<std::uint8_t>(value != nullptr));
    if (!value) return;
    const Nesting level{stream(writer)};
    internal::put(writer, std::as_const(*value));
  }
  template <class T>
  static T get(auto& reader) {
    return get_pointer<T>(reader);
  }
};

template <>
struct Shape<Kind::path> {
  static void put(auto& writer, const auto& value) { internal::put(writer, value.native()); }
  template <class T>
  static T get(auto& reader) {
    return T{internal::get<typename T::string_type>(reader)};
  }
};

template <>
struct Shape<Kind::error_code> {
  static void put(auto& writer, const auto& value) {
    put_error_category(stream(writer), value.category());
    stream(writer).write_value(static_cast<std::int32_t>(value.value()));
  }
  template <class T>
  static T get(auto& reader) {
    const auto& category = get_error_category(stream(reader));
    return T{stream(reader).template read_value<std::int32_t>(), category};
  }
};

template <>
struct Shape<Kind::exception> {
  static void put(auto& writer, const auto& value) { internal::put(writer, std::string{value.what()}); }
  template <class T>
  static T get(auto& reader) {
    using Standard =
        std::conditional_t<std::derived_from<T, std::runtime_error>, std::runtime_error, std::logic_error>;
    const auto text = internal::get<std::string>(reader);
    T exception{text};
    // The constructor of T may add to the text, as it did for the original: this sets the text as it was.
    static_cast<Standard&>(exception) = Standard{text};
    return exception;
  }
};

/// Does not compile, and says why.
template <>
struct Shape<Kind::none> {
  template <class T>
  static void put(auto&, const T&) {
    static_cast<void>(check_argument<T>());
  }
  template <class T>
  static T get(auto&) {
    static_cast<void>(check_argument<T>());
  }
};

template <class Writer, class T>
inline void put(Writer& writer, const T& value) {
  Shape<kind<T>()>::put(writer, value);
}

template <class T, class Reader>
inline T get(Reader& reader) {
  return Shape<kind<T>()>::template get<T>(reader);
}

template <class Reader, class T>
inline void get_into(Reader& reader, T& value) {
  if constexpr (kind<T>() == Kind::cereal)
    get_with_word(reader, value);
  else
    value = get<T>(reader);
}

}  // namespace kindred::internal
