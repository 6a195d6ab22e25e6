#pragma once

#include <type_traits>

#include "kindred/internal/codec_kinds.hpp"

// Why a type does not cross a process border, found before any value is encoded, and said in one sentence
// that names the substitute.

namespace kindred::internal {

/// A reason, and the type that it is said of: the argument's, or that of a part of it.
template <Refusal reason, class Culprit>
struct Verdict {
  static constexpr Refusal refusal = reason;
  using culprit = Culprit;
};
using Accepted = Verdict<Refusal::none, void>;

template <class T, class... Open>
struct Judge;

/// The first verdict that refuses.
template <class First, class... More>
struct FirstRefusal {
  using type = First;
};
template <class Second, class... More>
struct FirstRefusal<Accepted, Second, More...> : FirstRefusal<Second, More...> {};

template <class T>
consteval Refusal own_refusal() {
  using Value = std::remove_cv_t<T>;
  if constexpr (std::is_reference_v<T>)
    return Refusal::reference;
  else if constexpr (!std::is_object_v<T> || std::is_array_v<T>)
    return Refusal::not_an_object;
  else if constexpr (HasCodecTraits<Value>)
    return CrossesByTraits<Value> ? Refusal::none : Refusal::refused_by_traits;
  else if constexpr (std::is_pointer_v<Value>) {
    return std::is_function_v<std::remove_pointer_t<Value>> ? Refusal::function_pointer : Refusal::pointer;
  } else if constexpr (std::is_member_pointer_v<Value>)
    return Refusal::member_pointer;
  else if constexpr (constexpr auto k = kind<Value>();
                     k == Kind::aggregate ||
                     (k == Kind::bytes && std::is_aggregate_v<Value> && !is_library_type<Value>)) {
    // A reference member is invisible to Boost.PFR, but it keeps the aggregate from being assigned to, though
    // each of its members can be.
    if constexpr (PlainAggregate<Value>)
      return has_reference_member<Value>(FieldIndices<Value>{}) ? Refusal::reference_member : Refusal::none;
    else
      return Refusal::none;
  } else if constexpr (k == Kind::cereal) {
    return std::is_default_constructible_v<Value> ||
                   std::is_same_v<typename InputArchiveFor<Value>::access, cereal::access>
               ? Refusal::none
               : Refusal::no_default;
  } else if constexpr (k != Kind::none)
    return Refusal::none;
  else if constexpr (constexpr auto named = names_a_process_bound_type<Value>(); named != Refusal::none)
    return named;
  else if constexpr (is_lambda<Value>())
    return Refusal::captures;
  else if constexpr (is_view<Value>)
    return Refusal::view;
  else if constexpr (IteratorShape<Value>)
    return Refusal::iterator;
  else if constexpr (is_smart_pointer<Value>) {
    constexpr auto pointee = names_a_process_bound_type<std::remove_cv_t<typename Value::element_type>>();
    return pointee != Refusal::none ? pointee : Refusal::polymorphic;
  } else if constexpr (!std::is_move_constructible_v<Value>)
    return Refusal::immovable;
  else if constexpr (std::is_aggregate_v<Value> && AggregateWithBases<Value>)
    return Refusal::aggregate_with_bases;
  else if constexpr (std::is_aggregate_v<Value> && std::is_class_v<Value>)
    return Refusal::aggregate_with_array;
  else
    return Refusal::unknown;
}

/// The parts of a value that are looked at besides its own type.
template <class T, Kind k, class... Open>
struct JudgeParts {
  using type = Accepted;
};
template <class T, class... Open>
struct JudgeElements {
  using type = typename Judge<typename T::value_type, Open...>::type;
};
template <class T, class... Open>
struct JudgeParts<T, Kind::sequence, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::forward_list, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::set, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::array, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::optional, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::valarray, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::adaptor, Open...> : JudgeElements<T, Open...> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::map, Open...>
    : FirstRefusal<typename Judge<typename T::key_type, Open...>::type,
                   typename Judge<typename T::mapped_type, Open...>::type> {};
template <class T, class... Open>
struct JudgeParts<T, Kind::pointer, Open...> {
  using type = typename Judge<typename T::element_type, Open...>::type;
};
template <template <class...> class Tuple, class... T, class... Open>
struct JudgeParts<Tuple<T...>, Kind::tuple, Open...>
    : FirstRefusal<typename Judge<T, Open...>::type..., Accepted> {};
template <template <class...> class Variant, class... T, class... Open>
struct JudgeParts<Variant<T...>, Kind::variant, Open...>
    : FirstRefusal<typename Judge<T, Open...>::type..., Accepted> {};

template <class T, class Indices, class... Open>
struct JudgeFields;
template <class T, std::size_t... I, class... Open>
struct JudgeFields<T, std::index_sequence<I...>, Open...>
    : FirstRefusal<typename Judge<FieldOf<T, I>, Open...>::type..., Accepted> {};
// A class may contain itself, behind a container or pointer: once it is being looked at, it is not looked at
// again.
template <class T, class... Open>
struct JudgeParts<T, Kind::aggregate, Open...> : JudgeFields<T, FieldIndices<T>, T, Open...> {};

template <class T, class... Open>
struct Judge {
  using Value = std::remove_cv_t<T>;
  static consteval auto find() {
    if constexpr ((std::is_same_v<Value, Open> || ...))
      return Accepted{};
    else if constexpr (constexpr auto reason = own_refusal<T>(); reason != Refusal::none)
      return Verdict<reason, T>{};
    else
      return typename JudgeParts<Value, kind<Value>(), Open...>::type{};
  }
  using type = decltype(find());
};

template <class T>
using VerdictOn = typename Judge<T>::type;

/// Can a value of type `T` be sent to another process?
template <class T>
inline constexpr bool crosses = VerdictOn<T>::refusal == Refusal::none;

// The compiler prints the two types with the message.
template <Refusal refusal, class Whole, class Culprit>
consteval bool explain_refusal() {
  static_assert(
      refusal != Refusal::pointer,
      "kindred: a raw pointer cannot cross to another process, whose memory is another: pass the value, a container, or "
      "kindred::SharedArray");
  static_assert(
      refusal != Refusal::function_pointer,
      "kindred: a function pointer cannot be passed as an argument, because code lies elsewhere in another process: submit the "
      "function itself, or pass a function object without captures");
  static_assert(
      refusal != Refusal::member_pointer,
      "kindred: a pointer to member cannot be passed as an argument: write submit<&Class::member>(object, ...) to call it");
  static_assert(
      refusal != Refusal::reference,
      "kindred: a reference (std::ref, reference_wrapper) means nothing in another process: pass the value and return the new one, "
      "or share a kindred::SharedArray");
  static_assert(
      refusal != Refusal::reference_member,
      "kindred: a class with a reference member cannot cross: make the member a value, or give the class a cereal serialize");
  static_assert(
      refusal != Refusal::view,
      "kindred: a view (string_view, span, range) points into memory of this process: use std::string or std::vector");
  static_assert(
      refusal != Refusal::iterator,
      "kindred: an iterator points into a container of this process: pass the container, or an index");
  static_assert(
      refusal != Refusal::captures,
      "kindred: a lambda with captures cannot cross: pass the capture as an argument, or write a function object with a cereal "
      "serialize");
  static_assert(
      refusal != Refusal::std_function,
      "kindred: a std::function cannot cross, because nobody can see what it holds: pass a function, a lambda without captures, or "
      "a serialisable function object");
  static_assert(refusal != Refusal::bind,
                "kindred: a bound function cannot cross: pass the function and its arguments to submit");
  static_assert(
      refusal != Refusal::future,
      "kindred: a future belongs to the process that waits for it: pass its value (get()), or submit the next task from then()");
  static_assert(
      refusal != Refusal::lock,
      "kindred: a lock of the standard library works inside one process: use executor.make_mutex(), make_semaphore(), make_event() or "
      "make_barrier()");
  static_assert(
      refusal != Refusal::thread,
      "kindred: a thread, its id, stop token or coroutine belongs to one process: pass what it works on");
  static_assert(
      refusal != Refusal::atomic,
      "kindred: an atomic would be copied, not shared: use executor.make_counter(), or pass the value (load())");
  static_assert(
      refusal != Refusal::stream,
      "kindred: a stream belongs to one process: pass the file's path and open it in the task, or pass the text as std::string");
  static_assert(
      refusal != Refusal::exception_pointer,
      "kindred: a std::exception_ptr cannot be passed: throw in the task, or return the exception object itself");
  static_assert(refusal != Refusal::weak_pointer,
                "kindred: a weak_ptr cannot cross: pass the shared_ptr (lock()), whose value is copied");
  static_assert(
      refusal != Refusal::logger,
      "kindred: a logger cannot cross: in a task, log with kindred::log_info(...) or kindred::this_worker().logger()");
  static_assert(
      refusal != Refusal::executor,
      "kindred: an executor or Entry belongs to the process that made it: submit from the parent, or make a pool inside the task");
  static_assert(
      refusal != Refusal::worker,
      "kindred: the worker supplies kindred::Worker& itself, as the task's first parameter: do not pass one");
  static_assert(
      refusal != Refusal::polymorphic,
      "kindred: a pointer to a polymorphic class may hold a derived one, which would be cut off: include "
      "<cereal/types/polymorphic.hpp> and register the classes with CEREAL_REGISTER_TYPE, or pass the concrete type");
  static_assert(
      refusal != Refusal::immovable,
      "kindred: a type that can be neither copied nor moved cannot cross: pass what it is made from, or give it a cereal "
      "save/load behind a std::unique_ptr");
  static_assert(
      refusal != Refusal::aggregate_with_bases,
      "kindred: a class with base classes is not taken apart: give it a cereal serialize, template <class Archive> void "
      "serialize(Archive& archive) { archive(...); }");
  static_assert(
      refusal != Refusal::aggregate_with_array,
      "kindred: a class with a C array as member is not taken apart: use std::array, or give the class a cereal serialize");
  static_assert(
      refusal != Refusal::no_default,
      "kindred: a type with its own serialize needs a default constructor, so that there is something to read into");
  static_assert(refusal != Refusal::refused_by_traits,
                "kindred: a value of this type belongs to one process and cannot be passed");
  static_assert(refusal != Refusal::not_an_object,
                "kindred: only values can cross to another process: not void, arrays or functions");
  static_assert(
      refusal != Refusal::unknown,
      "kindred: do not know how to send this type: give it a cereal serialize, template <class Archive> void serialize(Archive& "
      "archive) { archive(...); }, or make it an aggregate of types that can be sent");
  return refusal == Refusal::none;
}

/// Fails to compile, with the reason and the substitute, unless a `T` can be sent as an argument.
template <class T>
consteval bool check_argument() {
  return explain_refusal<VerdictOn<T>::refusal, T, typename VerdictOn<T>::culprit>();
}

/// Fails to compile, with the reason and the substitute, unless a task may return a `T` (as it is declared:
/// with its reference).
template <class T>
consteval bool check_result() {
  static_assert(
      !std::is_reference_v<T>,
      "kindred: a task cannot return a reference, which would refer to the worker's memory: return by value");
  if constexpr (std::is_void_v<T> || std::is_reference_v<T>) {
    return true;
  } else {
    using Reason = VerdictOn<std::remove_cv_t<T>>;
    static_assert(
        Reason::refusal != Refusal::pointer,
        "kindred: a task cannot return a raw pointer, which would point into the worker's memory: return the value, a container, "
        "or kindred::SharedArray");
    static_assert(
        Reason::refusal != Refusal::view,
        "kindred: a task cannot return a view (string_view, span), which would point into the worker's memory: return std::string "
        "or std::vector");
    if constexpr (Reason::refusal == Refusal::pointer || Reason::refusal == Refusal::view)
      return false;
    else
      return explain_refusal<Reason::refusal, T, typename Reason::culprit>();
  }
}

}  // namespace kindred::internal
