#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/pfr/core.hpp>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/codec_cereal.hpp"
#include "kindred/internal/codec_traits.hpp"
#include "kindred/internal/codec_type_name.hpp"

// How each type crosses a process border (`Kind`), or why it does not (`Refusal`). The members of the
// standard library are recognised by their shape and name, so that a program pays for <map>, <variant> or
// <filesystem> only where it includes them.

namespace kindred::internal {

/// How a value of a type is written.
enum class Kind : unsigned char {
  none,            ///< it is not: see Refusal
  traits,          ///< CodecTraits
  cereal,          ///< the type's own serialize, save/load or save_minimal/load_minimal
  cereal_pointer,  ///< a smart pointer that cereal knows how to follow: to a polymorphic class, or to one
                   ///< with its own word
  bytes,           ///< sizeof bytes as they are
  boolean,         ///< one byte, which is checked
  text,            ///< basic_string
  bits,            ///< vector<bool>
  sequence,        ///< vector, deque, list
  forward_list,
  set,    ///< set, unordered_set, multi...
  map,    ///< map, unordered_map, multi...
  array,  ///< std::array of what is not bytes
  tuple,  ///< tuple, pair
  optional,
  variant,
  pointer,  ///< unique_ptr, shared_ptr: null or the value
  path,     ///< std::filesystem::path
  bitset,
  adaptor,  ///< stack, queue, priority_queue
  valarray,
  error_code,  ///< error_code, error_condition: number and category
  exception,   ///< a standard exception that is its text
  aggregate    ///< member by member
};

/// Why a type does not cross.
enum class Refusal : unsigned char {
  none,
  pointer,
  function_pointer,
  member_pointer,
  reference,
  view,
  iterator,
  captures,
  std_function,
  bind,
  future,
  lock,
  thread,
  atomic,
  stream,
  exception_pointer,
  weak_pointer,
  logger,
  executor,
  worker,
  polymorphic,
  immovable,
  aggregate_with_bases,
  aggregate_with_array,
  reference_member,
  no_default,
  refused_by_traits,
  not_an_object,
  unknown
};

template <class T>
consteval Kind kind();

// --- the standard library's types, by shape

template <class T>
inline constexpr bool is_text = false;
template <class C, class Traits, class A>
inline constexpr bool is_text<std::basic_string<C, Traits, A>> = true;

template <class T>
inline constexpr bool is_bits = false;
template <class A>
inline constexpr bool is_bits<std::vector<bool, A>> = true;

template <class T>
inline constexpr bool is_vector = false;
template <class T, class A>
inline constexpr bool is_vector<std::vector<T, A>> = true;

template <class T>
inline constexpr bool is_std_array = false;
template <class T, std::size_t size>
inline constexpr bool is_std_array<std::array<T, size>> = true;

template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = true;
template <class A, class B>
inline constexpr bool is_tuple<std::pair<A, B>> = true;

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <class T>
inline constexpr bool is_smart_pointer = false;
template <class T>
inline constexpr bool is_smart_pointer<std::unique_ptr<T>> = !std::is_array_v<T> && !std::is_void_v<T>;
template <class T>
inline constexpr bool is_smart_pointer<std::shared_ptr<T>> = !std::is_array_v<T> && !std::is_void_v<T>;

template <class T>
inline constexpr bool owns_array = false;  // or something unknown
template <class T, class D>
inline constexpr bool owns_array<std::unique_ptr<T, D>> = std::is_array_v<T> || std::is_void_v<T>;
template <class T>
inline constexpr bool owns_array<std::shared_ptr<T>> = std::is_array_v<T> || std::is_void_v<T>;

template <class T>
inline constexpr bool is_weak_pointer = false;
template <class T>
inline constexpr bool is_weak_pointer<std::weak_ptr<T>> = true;

template <class T>
inline constexpr bool is_variant = false;
template <template <class...> class V, class... T>
  requires requires(const V<T...>& value) {
    value.valueless_by_exception();
    value.index();
  }
inline constexpr bool is_variant<V<T...>> = true;

template <class T>
concept PathShape = requires(const T& value) {
  { value.native() } -> std::same_as<const typename T::string_type&>;
  value.lexically_normal();
};
template <class T>
concept BitsetShape = requires(T& value) {
  value.flip();
  value.to_ullong();
  value.test(0);
};
template <class T>
concept AdaptorShape = requires(T& value) {
  typename T::container_type;
  value.pop();
  value.size();
} && !requires(T& value) { value.begin(); };
template <class T>
concept ValarrayShape = requires(T& value) {
  typename T::value_type;
  value.cshift(1);
  value.apply(static_cast<typename T::value_type (*)(typename T::value_type)>(nullptr));
};
template <class T>
concept RangeShape = requires(T& value) {
  typename T::value_type;
  value.begin();
  value.end();
  value.clear();
};
template <class T>
concept SetShape = RangeShape<T> && requires { typename T::key_type; } && !requires {
  typename T::mapped_type;
} && requires(T& value, typename T::key_type& key) { value.emplace_hint(value.end(), std::move(key)); };
template <class T>
concept MapShape =
    RangeShape<T> && requires(T& value, typename T::key_type& key, typename T::mapped_type& mapped) {
      value.emplace_hint(value.end(), std::move(key), std::move(mapped));
    };
template <class T>
concept ForwardListShape = RangeShape<T> && requires(T& value) { value.before_begin(); };
template <class T>
concept SequenceShape = RangeShape<T> && requires(T& value, typename T::value_type& element) {
  value.push_back(std::move(element));
  value.size();
};

/// Types that live in one process, by name: the reason that is said for them.
template <class T>
consteval Refusal names_a_process_bound_type() {
  struct Entry {
    std::string_view start;
    Refusal refusal;
  };
  constexpr auto name = type_name<T>();
  if (!name.starts_with("std::") && !name.starts_with("kindred::") && !name.starts_with("spdlog::"))
    return Refusal::none;
  for (const auto [start, refusal] :
       std::initializer_list<Entry>{{"std::reference_wrapper<", Refusal::reference},
                                    {"std::function<", Refusal::std_function},
                                    {"std::_Bind", Refusal::bind},
                                    {"std::_Mem_fn", Refusal::bind},
                                    {"std::_Not_fn", Refusal::bind},
                                    {"std::future", Refusal::future},
                                    {"std::shared_future", Refusal::future},
                                    {"std::promise<", Refusal::future},
                                    {"std::packaged_task<", Refusal::future},
                                    {"std::mutex", Refusal::lock},
                                    {"std::recursive_mutex", Refusal::lock},
                                    {"std::timed_mutex", Refusal::lock},
                                    {"std::recursive_timed_mutex", Refusal::lock},
                                    {"std::shared_mutex", Refusal::lock},
                                    {"std::shared_timed_mutex", Refusal::lock},
                                    {"std::unique_lock<", Refusal::lock},
                                    {"std::lock_guard<", Refusal::lock},
                                    {"std::scoped_lock<", Refusal::lock},
                                    {"std::shared_lock<", Refusal::lock},
                                    {"std::condition_variable", Refusal::lock},
                                    {"std::counting_semaphore<", Refusal::lock},
                                    {"std::latch", Refusal::lock},
                                    {"std::barrier<", Refusal::lock},
                                    {"std::once_flag", Refusal::lock},
                                    {"std::thread", Refusal::thread},
                                    {"std::jthread", Refusal::thread},
                                    {"std::stop_", Refusal::thread},
                                    {"std::coroutine_handle<", Refusal::thread},
                                    {"std::atomic", Refusal::atomic},
                                    {"std::basic_fstream<", Refusal::stream},
                                    {"std::basic_ifstream<", Refusal::stream},
                                    {"std::basic_ofstream<", Refusal::stream},
                                    {"std::basic_filebuf<", Refusal::stream},
                                    {"std::basic_istream<", Refusal::stream},
                                    {"std::basic_ostream<", Refusal::stream},
                                    {"std::basic_iostream<", Refusal::stream},
                                    {"std::basic_stringstream<", Refusal::stream},
                                    {"std::basic_istringstream<", Refusal::stream},
                                    {"std::basic_ostringstream<", Refusal::stream},
                                    {"std::exception_ptr", Refusal::exception_pointer},
                                    {"std::weak_ptr<", Refusal::weak_pointer},
                                    {"std::type_index", Refusal::unknown},
                                    {"std::source_location", Refusal::unknown},
                                    {"std::locale", Refusal::unknown},
                                    {"std::any", Refusal::unknown},
                                    {"std::random_device", Refusal::unknown},
                                    {"kindred::Logger", Refusal::logger},
                                    {"spdlog::", Refusal::logger},
                                    {"kindred::ProcessPoolExecutor", Refusal::executor},
                                    {"kindred::Entry", Refusal::executor},
                                    {"kindred::Future<", Refusal::future},
                                    {"kindred::SharedFuture<", Refusal::future},
                                    {"kindred::Worker", Refusal::worker}}) {
    if (is_in<T>(start)) return refusal;
  }
  return Refusal::none;
}

/// Is `T` of a library whose containers hold what they show and nothing else?
template <class T>
inline constexpr bool is_library_type = is_in<T>("std::") || is_in<T>("boost::");

/// A standard exception class, or one derived from it that adds no member: its text is all that there is.
template <class T>
concept TextException =
    (std::derived_from<T, std::runtime_error> || std::derived_from<T, std::logic_error>) &&
    sizeof(T) == sizeof(std::runtime_error) && std::is_constructible_v<T, std::string> &&
    std::move_constructible<T>;

// --- aggregates

// Boost.PFR takes aggregates apart. Only its count of the fields is not used: g++ 12 fails on it with an
// internal error where a member is a std::array of strings, and it counts the elements of C arrays, so that
// one with a thousand costs minutes.

// Converts to whatever an element of an aggregate is. By reference where that is possible: it keeps classes
// that are made from anything unambiguous.
struct AnyScalar {
  template <class T>
    requires std::is_scalar_v<T>
  operator T() const noexcept;  // NOLINT: implicit on purpose, as all here
};
struct AnyClassLvalue {
  template <class T>
    requires(!std::is_scalar_v<T>)
  operator T&() const&& noexcept;  // NOLINT
  template <class T>
    requires(!std::is_scalar_v<T>)
  operator T&() const& noexcept;  // NOLINT
};
struct AnyClassRvalue {
  template <class T>
    requires(!std::is_scalar_v<T>)
  operator T() const&& noexcept;  // NOLINT
};
struct AnyLvalue {
  template <class T>
  operator T&() const&& noexcept;  // NOLINT
  template <class T>
  operator T&() const& noexcept;  // NOLINT
};
struct AnyRvalue {
  template <class T>
  operator T() const&& noexcept;  // NOLINT
};
// What a C array of classes commonly holds. Not everything: a std::vector would take it as its element, and
// be instantiated.
struct AnyPlainClass {
  template <class T>
    requires(is_text<T> || std::is_trivially_copyable_v<T>)
  operator T() const noexcept;  // NOLINT
};
template <class Derived>
struct AnyBase {
  template <class Base>
    requires(std::is_base_of_v<Base, Derived> && !std::is_same_v<Base, Derived>)
  operator Base&() const&& noexcept;  // NOLINT
  template <class Base>
    requires(std::is_base_of_v<Base, Derived> && !std::is_same_v<Base, Derived>)
  operator Base() const& noexcept;  // NOLINT
};

/// The first element of an aggregate with a base class is that base.
template <class T>
concept AggregateWithBases = requires { T{AnyBase<T>{}}; };

template <std::size_t, class Any>
using AnyAt = Any;

inline constexpr std::size_t unknown_fields = static_cast<std::size_t>(-1);
inline constexpr std::size_t max_fields = 200;  // Boost.PFR takes apart no more

template <class T>
struct FieldSearch {
  using Any = std::conditional_t<std::is_copy_constructible_v<T>, AnyLvalue, AnyRvalue>;
  using AnyClass = std::conditional_t<std::is_copy_constructible_v<T>, AnyClassLvalue, AnyClassRvalue>;

  template <std::size_t... Before>
  static consteval bool accepts(std::index_sequence<Before...>) {
    return requires { T{AnyAt<Before, Any>{}...}; };
  }
  template <class Next, std::size_t... Before>
  static consteval bool accepts_next(std::index_sequence<Before...>) {
    return requires { T{AnyAt<Before, Any>{}..., Next{}}; };
  }
  template <std::size_t... Before>
  static consteval bool accepts_two_scalars(std::index_sequence<Before...>) {
    return requires { T{AnyAt<Before, Any>{}..., {AnyScalar{}, AnyScalar{}}}; };
  }
  // An array of classes takes braces around one of its elements, but then there are too many elements after
  // it: the count took each for a field, because the braces around an array may be left out.
  template <std::size_t... Before, std::size_t... After>
  static consteval bool is_array_of_classes(std::index_sequence<Before...>, std::index_sequence<After...>) {
    if constexpr (requires { T{AnyAt<Before, Any>{}..., {AnyPlainClass{}}}; }) {
      return !requires { T{AnyAt<Before, Any>{}..., {AnyPlainClass{}}, AnyAt<After, Any>{}...}; };
    } else {
      return false;
    }
  }
  template <std::size_t... I>
  static consteval bool has_array_of_classes(std::index_sequence<I...>) {
    return (is_array_of_classes(std::make_index_sequence<I>{},
                                std::make_index_sequence<sizeof...(I) - I - 1>{}) ||
            ...);
  }

  template <std::size_t n>
  static consteval std::size_t checked() {
    return has_array_of_classes(std::make_index_sequence<n>{}) ? unknown_fields : n;
  }
  /// For aggregates with a member that has no default constructor: only braces with all elements compile.
  template <std::size_t n>
  static consteval std::size_t all_or_nothing() {
    if constexpr (n > max_fields || n > sizeof(T) * 8)
      return unknown_fields;
    else if constexpr (accepts(std::make_index_sequence<n>{})) {
      if constexpr (accepts(std::make_index_sequence<n + 1>{}))
        return all_or_nothing<n + 1>();
      else
        return checked<n>();
    } else {
      return all_or_nothing<n + 1>();
    }
  }
  template <std::size_t n>
  static consteval std::size_t from() {
    using Before = std::make_index_sequence<n>;
    if constexpr (n > max_fields)
      return unknown_fields;
    else if constexpr (accepts_next<AnyClass>(Before{}))
      return from<n + 1>();
    else if constexpr (!accepts_next<AnyScalar>(Before{}))
      return accepts(Before{}) ? checked<n>() : all_or_nothing<n + 1>();
    else if constexpr (accepts_two_scalars(Before{}))
      return unknown_fields;  // a C array
    else
      return from<n + 1>();
  }
};

/// How many members an aggregate has; `unknown_fields` where one is a C array, or there are too many.
template <class T>
inline constexpr std::size_t field_count = FieldSearch<T>::template from<0>();

/// Boost.PFR can take it apart.
template <class T>
concept PlainAggregate = std::is_aggregate_v<T> && std::is_class_v<T> && std::is_move_constructible_v<T> &&
                         !AggregateWithBases<T> && field_count<T> != unknown_fields;

template <class T>
using FieldIndices = std::make_index_sequence<field_count<std::remove_cv_t<T>>>;

/// References to the members.
template <class T>
constexpr auto fields_of(T& value) noexcept {
  return boost::pfr::detail::tie_as_tuple(value,
                                          boost::pfr::detail::size_t_<field_count<std::remove_cv_t<T>>>{});
}
template <std::size_t i, class Fields>
constexpr auto& field(const Fields& fields) noexcept {
  return boost::pfr::detail::sequence_tuple::get<i>(fields);
}
template <class T, std::size_t i>
using DeclaredField = std::remove_reference_t<decltype(field<i>(fields_of(std::declval<T&>())))>;
template <class T, std::size_t i>
using FieldOf = std::remove_cv_t<DeclaredField<T, i>>;

/// Each member could be assigned to, and the whole cannot: a member is a reference, which Boost.PFR shows as
/// what it refers to.
template <class T, std::size_t... I>
consteval bool has_reference_member(std::index_sequence<I...>) {
  return !std::is_move_assignable_v<T> && (std::is_move_assignable_v<DeclaredField<T, I>> && ...);
}

/// May a value be written as its bytes, and be read back from any bytes? A bool may not: it must be 0 or 1.
template <class T, std::size_t... I>
consteval bool fields_are_bytes(std::index_sequence<I...>) {
  return ((kind<FieldOf<T, I>>() == Kind::bytes) && ...);
}

// --- the kind of a type

/// Standard and Boost types whose bytes mean nothing elsewhere, though they copy trivially.
template <class T>
concept IteratorShape = requires {
  typename T::iterator_category;
  typename T::pointer;
};
template <class T>
inline constexpr bool is_view =
    is_in<T>("std::basic_string_view<") || is_in<T>("std::span<") || is_in<T>("std::initializer_list<") ||
    is_in<T>("std::ranges::") || is_in<T>("fmt::") || is_in<T>("boost::basic_string_view<");

template <class T>
consteval Kind library_kind() {
  if constexpr (is_text<T>)
    return Kind::text;
  else if constexpr (is_bits<T>)
    return Kind::bits;
  else if constexpr (is_vector<T>)
    return Kind::sequence;
  else if constexpr (is_std_array<T>) {
    if constexpr (std::tuple_size_v<T> == 0)
      return Kind::bytes;
    else
      return kind<typename T::value_type>() == Kind::bytes ? Kind::bytes : Kind::array;
  } else if constexpr (is_tuple<T>)
    return std::tuple_size_v<T> == 0 ? Kind::bytes : Kind::tuple;
  else if constexpr (is_optional<T>)
    return Kind::optional;
  else if constexpr (is_variant<T>)
    return Kind::variant;
  else if constexpr (is_smart_pointer<T>) {
    using Pointee = std::remove_cv_t<typename T::element_type>;
    if constexpr (std::is_polymorphic_v<Pointee> && !std::is_final_v<Pointee>)
      return CerealPointer<T> ? Kind::cereal_pointer : Kind::none;
    else if constexpr (kind<Pointee>() == Kind::cereal && CerealPointer<T>)
      return Kind::cereal_pointer;
    else
      return Kind::pointer;
  } else if constexpr (is_weak_pointer<T>)
    return CerealPointer<T> ? Kind::cereal_pointer : Kind::none;
  else if constexpr (std::is_same_v<T, std::error_code> || std::is_same_v<T, std::error_condition>)
    return Kind::error_code;
  else if constexpr (PathShape<T>)
    return Kind::path;
  else if constexpr (BitsetShape<T>)
    return Kind::bitset;
  else if constexpr (MapShape<T>)
    return Kind::map;
  else if constexpr (SetShape<T>)
    return Kind::set;
  else if constexpr (ForwardListShape<T>)
    return Kind::forward_list;
  else if constexpr (SequenceShape<T>)
    return Kind::sequence;
  else if constexpr (AdaptorShape<T>)
    return Kind::adaptor;
  else if constexpr (ValarrayShape<T>)
    return Kind::valarray;
  else
    return Kind::none;
}

template <class T>
consteval Kind class_kind() {
  if constexpr (is_library_type<T>) {
    if constexpr (constexpr auto known = library_kind<T>(); known != Kind::none)
      return known;
    else if constexpr (is_smart_pointer<T> || owns_array<T>)
      return Kind::none;
    else if constexpr (is_view<T> || IteratorShape<T> || names_a_process_bound_type<T>() != Refusal::none)
      return Kind::none;
    else if constexpr (is_in<T>("std::") && std::is_trivially_copyable_v<T> &&
                       std::is_move_constructible_v<T>)
      return Kind::bytes;  // complex, duration
    else if constexpr (word_of<T> != Word::none)
      return Kind::cereal;  // cereal/types/boost_variant.hpp ...
    else if constexpr (std::is_trivially_copyable_v<T> && std::is_move_constructible_v<T>)
      return Kind::bytes;
    else
      return TextException<T> ? Kind::exception : Kind::none;
  } else if constexpr (names_a_process_bound_type<T>() != Refusal::none)
    return Kind::none;
  else if constexpr (word_of<T> != Word::none)
    return Kind::cereal;
  else if constexpr (std::is_union_v<T>)
    return std::is_trivially_copyable_v<T> ? Kind::bytes : Kind::none;
  else if constexpr (is_lambda<T>() && !std::is_empty_v<T>)
    return Kind::none;
  else if constexpr (!std::is_move_constructible_v<T>)
    return Kind::none;
  else if constexpr (PlainAggregate<T>) {
    if constexpr (std::is_trivially_copyable_v<T>)
      return fields_are_bytes<T>(FieldIndices<T>{}) ? Kind::bytes : Kind::aggregate;
    else
      return Kind::aggregate;
  } else if constexpr (std::is_trivially_copyable_v<T>)
    return is_view<T> || IteratorShape<T> ? Kind::none : Kind::bytes;
  else
    return TextException<T> ? Kind::exception : Kind::none;
}

/// How a `T` (no reference, no const) is written. Says nothing of its parts: see `refusal`.
template <class T>
consteval Kind find_kind() {
  if constexpr (HasCodecTraits<T>)
    return CrossesByTraits<T> ? Kind::traits : Kind::none;
  else if constexpr (std::is_same_v<T, bool>)
    return Kind::boolean;
  else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T>)
    return Kind::none;
  else if constexpr (std::is_scalar_v<T>)
    return Kind::bytes;
  else if constexpr (std::is_class_v<T> || std::is_union_v<T>)
    return class_kind<T>();
  else if constexpr (std::is_object_v<T> && !std::is_array_v<T> && std::is_trivially_copyable_v<T>)
    return Kind::bytes;  // __int128
  else
    return Kind::none;
}
template <class T>
inline constexpr Kind kind_of = find_kind<T>();
template <class T>
consteval Kind kind() {
  return kind_of<T>;
}

/// How many bytes a `T` takes at least; 0 where that is not known.
template <class T>
consteval std::size_t min_bytes();

template <class T, std::size_t... I>
consteval std::size_t min_bytes_of_fields(std::index_sequence<I...>) {
  return (std::size_t{0} + ... + min_bytes<FieldOf<T, I>>());
}
template <class T, std::size_t... I>
consteval std::size_t min_bytes_of_elements(std::index_sequence<I...>) {
  return (std::size_t{0} + ... + min_bytes<std::remove_cv_t<std::tuple_element_t<I, T>>>());
}
template <class T>
consteval std::size_t min_bytes() {
  constexpr auto k = kind<T>();
  if constexpr (k == Kind::bytes)
    return sizeof(T);
  else if constexpr (k == Kind::traits) {
    if constexpr (requires { CodecTraits<T>::min_bytes; })
      return CodecTraits<T>::min_bytes;
    else
      return 0;
  } else if constexpr (k == Kind::boolean || k == Kind::optional || k == Kind::variant || k == Kind::pointer)
    return 1;
  else if constexpr (k == Kind::aggregate)
    return min_bytes_of_fields<T>(FieldIndices<T>{});
  else if constexpr (k == Kind::tuple)
    return min_bytes_of_elements<T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  else if constexpr (k == Kind::array)
    return std::tuple_size_v<T> * min_bytes<typename T::value_type>();
  else if constexpr (k == Kind::bitset)
    return sizeof(T);
  else if constexpr (k == Kind::error_code)
    return 5;
  else if constexpr (k == Kind::cereal || k == Kind::cereal_pointer || k == Kind::none)
    return 0;
  else
    return 8;
}

}  // namespace kindred::internal
