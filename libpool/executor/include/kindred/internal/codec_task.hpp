#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/codec.hpp"

// What a task is made of, from the types that `submit` gets: which values are sent, how the worker hands them
// to the function, and what comes back. The same template is instantiated on both sides.

namespace kindred {
class Worker;
}

namespace kindred::internal {

// --- the function

/// How a function gets to the worker.
enum class FunctionKind : unsigned char {
  pointer,    ///< a function: as a reference to code
  stateless,  ///< a lambda without captures, an empty function object: the worker makes its own, nothing is
              ///< sent
  object      ///< a function object with state: as a value
};

/// `F` is decayed.
template <class F>
consteval FunctionKind function_kind() {
  if constexpr (std::is_pointer_v<F>)
    return FunctionKind::pointer;
  else if constexpr (std::is_empty_v<F> && std::is_default_constructible_v<F> && !HasCodecTraits<F>)
    return FunctionKind::stateless;
  else
    return FunctionKind::object;
}

/// Fails to compile, with the reason and the substitute, unless an `F` (decayed) can be called in another
/// process.
template <class F>
consteval bool check_function() {
  static_assert(!std::is_member_pointer_v<F>,
                "kindred: a member function is submitted as submit<&Class::member>(object, ...)");
  if constexpr (function_kind<F>() != FunctionKind::object)
    return !std::is_member_pointer_v<F>;
  else
    return explain_refusal<VerdictOn<F>::refusal, F, typename VerdictOn<F>::culprit>();
}

/// Writes what `decode_function` needs beyond the type: nothing, unless the function object has state. Code
/// references (FunctionKind::pointer) are the caller's affair.
template <class F>
void encode_function(Encoder& encoder, const F& function) {
  static_assert(function_kind<F>() != FunctionKind::pointer);
  if constexpr (function_kind<F>() == FunctionKind::object) encode(encoder, function);
}
template <class F>
[[nodiscard]] F decode_function([[maybe_unused]] Decoder& decoder) {
  static_assert(function_kind<F>() != FunctionKind::pointer);
  if constexpr (function_kind<F>() == FunctionKind::object)
    return decode<F>(decoder);
  else
    return F();
}

template <class... T>
struct ParameterList {};

/// The parameters of a function, where there is one function and not a set of overloads or a template.
template <class F>
struct CallOperator {
  static constexpr bool known = false;
};
template <class R, class... P>
struct KnownSignature {
  static constexpr bool known = true;
  using result = R;
  using parameters = ParameterList<P...>;
};
template <class R, class... P>
struct CallOperator<R (*)(P...)> : KnownSignature<R, P...> {};
template <class R, class... P>
struct CallOperator<R (*)(P...) noexcept> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...)> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) const> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) noexcept> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) const noexcept> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...)&> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) const&> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) & noexcept> : KnownSignature<R, P...> {};
template <class C, class R, class... P>
struct CallOperator<R (C::*)(P...) const & noexcept> : KnownSignature<R, P...> {};

template <class F>
struct Signature {
  static constexpr bool known = false;
};
template <class F>
  requires std::is_pointer_v<F>
struct Signature<F> : CallOperator<F> {};
template <class F>
  requires requires { &F::operator(); }
struct Signature<F> : CallOperator<decltype(&F::operator())> {};

template <class T>
inline constexpr bool is_worker = std::is_same_v<T, Worker&> || std::is_same_v<T, const Worker&>;

// --- one argument

/// The character type of a `const char*` or string_view (of any character), or void.
template <class T>
struct TextView {
  using character = void;
};
template <class C>
  requires(std::is_same_v<C, char> || std::is_same_v<C, wchar_t> || std::is_same_v<C, char8_t> ||
           std::is_same_v<C, char16_t> || std::is_same_v<C, char32_t>)
struct TextView<const C*> {
  using character = C;
};
template <class C>
  requires(!std::is_const_v<C>)
struct TextView<C*> : TextView<const C*> {};
template <class C, class Traits>
struct TextView<std::basic_string_view<C, Traits>> {
  using character = C;
};
template <class T>
using TextViewCharacter = typename TextView<T>::character;
template <class T>
inline constexpr bool is_text_view = !std::is_void_v<TextViewCharacter<T>>;

template <class T>
struct SpanOf {
  using element = void;
};
template <class U, std::size_t extent>
struct SpanOf<std::span<U, extent>> {
  using element = U;
};
template <class T>
inline constexpr bool is_span = !std::is_void_v<typename SpanOf<T>::element>;

template <class T, class = void>
struct OwnerOf {
  using type = T;
};
template <class T>
struct OwnerOf<T, std::enable_if_t<is_text_view<T>>> {
  using type = std::basic_string<TextViewCharacter<T>>;
};
template <class T>
struct OwnerOf<T, std::enable_if_t<is_span<T>>> {
  using type = std::vector<std::remove_cv_t<typename SpanOf<T>::element>>;
};
/// What is sent of an argument that the function's declaration says nothing of: the decayed value, and for a
/// view a value that owns its text.
template <class A>
using Owned = typename OwnerOf<std::decay_t<A>>::type;

/// What is sent of an argument `A` for a parameter `P`: the parameter's own type, so that conversions happen
/// in the parent, as in a call.
template <class P, class A>
consteval auto sent_for() {
  using Parameter = std::remove_cvref_t<P>;
  using Argument = std::decay_t<A>;
  if constexpr (is_text_view<Parameter> || is_span<Parameter>) {
    // The parameter refers to a value that lives in the worker until the task ends: the argument's own (a
    // string, a SharedArray), or one that owns what a view sees.
    if constexpr (std::is_array_v<std::remove_cvref_t<A>> && is_span<Parameter>)
      return std::type_identity<typename OwnerOf<Parameter>::type>{};
    else
      return std::type_identity<Owned<A>>{};
  } else if constexpr (std::is_reference_v<P> && std::is_base_of_v<Parameter, Argument>) {
    return std::type_identity<Argument>{};  // a derived object for a base's reference: it is not cut
  } else {
    return std::type_identity<Parameter>{};
  }
}
template <class P, class A>
using SentFor = typename decltype(sent_for<P, A>())::type;

/// Must the argument be refused because of how the parameter is declared? A handle (of a shared object) may
/// be taken by reference: its copy in the worker is the same object.
template <class P>
inline constexpr bool takes_writable_reference =
    std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>> &&
    !CrossesByTraits<std::remove_cvref_t<P>>;
template <class P>
inline constexpr bool takes_writable_span =
    is_span<std::remove_cvref_t<P>> && !std::is_const_v<typename SpanOf<std::remove_cvref_t<P>>::element>;

[[noreturn]] void throw_null_text();  ///< UsageError

/// Writes an argument as a `Sent`, without a copy where it is one.
template <class Sent, class A>
void encode_as(Encoder& encoder, A&& argument) {
  using Argument = std::remove_cvref_t<A>;
  if constexpr (std::is_same_v<Argument, Sent>) {
    encode(encoder, argument);
  } else if constexpr (is_text<Sent> && (is_text_view<std::decay_t<A>>)) {
    if constexpr (std::is_pointer_v<Argument>) {
      if (argument == nullptr) throw_null_text();
    }
    const std::basic_string_view<typename Sent::value_type> text{argument};
    put_block(encoder, text.data(), text.size());
  } else if constexpr (is_vector<Sent> && (is_span<Argument> || std::is_array_v<Argument>)) {
    put_sequence(encoder, std::span<const typename Sent::value_type>{argument});
  } else {
    encode(encoder, static_cast<const Sent&>(Sent(std::forward<A>(argument))));
  }
}

template <class P, class Sent>
decltype(auto) hand_over_value(Sent& value) {
  using Parameter = std::remove_cvref_t<P>;
  if constexpr (std::is_pointer_v<Parameter> && is_text<Sent>)
    return value.c_str();
  else if constexpr (is_text_view<Parameter> || is_span<Parameter>)
    return Parameter(std::as_const(value));
  else if constexpr (std::is_lvalue_reference_v<P>)
    return (value);
  else
    return std::move(value);
}

/// The elements that a view looks at: in the message itself, which stays as it is until the task ends,
/// without a copy; or in an `Owner`, where they do not lie aligned in the message.
template <class Owner>
class Borrowed {
 public:
  using Element = typename Owner::value_type;

  explicit Borrowed(Decoder& decoder) {
    const auto left = decoder.left();
    const auto count = decoder.read_count(sizeof(Element));
    const auto bytes = decoder.take(count * sizeof(Element));
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(Element) == 0) {
      elements_ = {reinterpret_cast<const Element*>(bytes.data()), count};
    } else {
      decoder.rewind(left);
      owner_ = decode<Owner>(decoder);
      elements_ = owner_;
    }
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  [[nodiscard]] std::span<const Element> elements() const noexcept { return elements_; }

 private:
  Owner owner_;
  std::span<const Element> elements_;
};

/// What the worker holds of an argument that was sent as a `Sent`, for a parameter `P`.
template <class P, class Sent>
consteval auto held_for() {
  using Parameter = std::remove_cvref_t<P>;
  constexpr bool is_view = is_span<Parameter> || (is_text_view<Parameter> && !std::is_pointer_v<Parameter>);
  if constexpr (is_view && (is_text<Sent> || is_vector<Sent>)) {
    if constexpr (kind<typename Sent::value_type>() == Kind::bytes &&
                  requires(const Sent& sent) { sent.data(); })
      return std::type_identity<Borrowed<Sent>>{};
    else
      return std::type_identity<Sent>{};
  } else {
    return std::type_identity<Sent>{};
  }
}
template <class P, class Sent>
using HeldFor = typename decltype(held_for<P, Sent>())::type;

template <class T>
inline constexpr bool is_borrowed = false;
template <class Owner>
inline constexpr bool is_borrowed<Borrowed<Owner>> = true;

template <class T>
T read_argument(Decoder& decoder) {
  if constexpr (is_borrowed<T>)
    return T{decoder};
  else
    return decode<T>(decoder);
}

/// Hands a value that the worker holds to a parameter.
template <class P, class T>
decltype(auto) hand_over(T& value) {
  using Parameter = std::remove_cvref_t<P>;
  if constexpr (is_borrowed<T>)
    return Parameter(value.elements().data(), value.elements().size());
  else
    return hand_over_value<P>(value);
}

/// The decoded arguments of a task, in their order; they live until the task has ended.
template <std::size_t, class T>
struct Held {
  T value;
};
template <class Indices, class... T>
struct HeldArguments;
template <std::size_t... I, class... T>
struct HeldArguments<std::index_sequence<I...>, T...> : Held<I, T>... {
  explicit HeldArguments([[maybe_unused]] Decoder& decoder) : Held<I, T>{read_argument<T>(decoder)}... {}
};

// --- the task

/// A function's parameters without the worker's own.
template <class Parameters>
struct WithoutWorker {
  static constexpr bool takes_worker = false;
  using parameters = Parameters;
};
template <class First, class... P>
  requires is_worker<First>
struct WithoutWorker<ParameterList<First, P...>> {
  static constexpr bool takes_worker = true;
  using parameters = ParameterList<P...>;
};

template <class F, class... A>
struct DeclaredCall : WithoutWorker<typename Signature<F>::parameters> {
  using result = typename Signature<F>::result;
};
/// A template or a set of overloads: it is called with what was passed, and with the worker first if it must.
template <class F, class... A>
struct DeducedCall {
  static consteval bool needs_worker() {
    if constexpr (std::is_invocable_v<F&, Owned<A>...>)
      return false;
    else
      return std::is_invocable_v<F&, Worker&, Owned<A>...>;
  }
  static constexpr bool takes_worker = needs_worker();
  using parameters = ParameterList<Owned<A>&&...>;
  static consteval auto find_result() {
    if constexpr (takes_worker)
      return std::type_identity<std::invoke_result_t<F&, Worker&, Owned<A>...>>{};
    else if constexpr (std::is_invocable_v<F&, Owned<A>...>)
      return std::type_identity<std::invoke_result_t<F&, Owned<A>...>>{};
    else
      return std::type_identity<void>{};
  }
  using result = typename decltype(find_result())::type;
};

template <class Call, class Parameters, class Indices, class F, class... A>
struct TaskPlan;
template <class Call, class... P, std::size_t... I, class F, class... A>
struct TaskPlan<Call, ParameterList<P...>, std::index_sequence<I...>, F, A...> {
  static constexpr bool fits = sizeof...(P) >= sizeof...(A);  // more: those may have default arguments
  template <std::size_t i>
  using Parameter = std::tuple_element_t<fits ? i : 0, std::tuple<P..., std::conditional_t<fits, void, int>>>;
  template <std::size_t i>
  using Argument = std::tuple_element_t<i, std::tuple<A...>>;
  template <std::size_t i>
  using Sent = SentFor<Parameter<i>, Argument<i>>;
  using sent_tuple = std::tuple<Sent<I>...>;
  /// Owning values, as the parent reads them where it copies a call.
  using SentArguments = HeldArguments<std::index_sequence<I...>, Sent<I>...>;
  template <std::size_t i>
  using Taken = HeldFor<Parameter<i>, Sent<i>>;
  using Arguments = HeldArguments<std::index_sequence<I...>, Taken<I>...>;

  template <std::size_t i>
  static constexpr bool converts = std::is_same_v<std::remove_cvref_t<Argument<i>>, Sent<i>> ||
                                   std::is_convertible_v<Argument<i>, Parameter<i>> ||
                                   std::is_convertible_v<Argument<i>, std::remove_cvref_t<Parameter<i>>>;

  static consteval bool takes_what_is_handed_over() {
    if constexpr (Call::takes_worker) {
      return std::is_invocable_v<F&, Worker&,
                                 decltype(hand_over<Parameter<I>>(std::declval<Taken<I>&>()))...>;
    } else {
      return std::is_invocable_v<F&, decltype(hand_over<Parameter<I>>(std::declval<Taken<I>&>()))...>;
    }
  }
  static consteval bool takes_lvalues_only() {
    if constexpr (std::is_invocable_v<F&, Sent<I>&...>)
      return true;
    else
      return std::is_invocable_v<F&, Worker&, Sent<I>&...>;
  }
  /// Can the function be called at all, or are there parameters for which nothing was passed?
  static consteval bool has_enough_arguments() {
    if constexpr (!fits || sizeof...(P) == sizeof...(A))
      return true;
    else
      return takes_what_is_handed_over();
  }
  static consteval bool check_call() {
    if constexpr (takes_what_is_handed_over()) {
      return true;
    } else {
      static_assert(
          !takes_lvalues_only(),
          "kindred: a task cannot take a non-const reference, because the worker has a copy: take the value and return the new one, "
          "or share a kindred::SharedArray");
      static_assert(takes_lvalues_only(), "kindred: the task cannot be called with these arguments");
      return false;
    }
  }

  static consteval bool check() {
    static_assert(
        fits,
        "kindred: more arguments were passed than the task takes (kindred::Worker& as its first parameter is supplied by "
        "the worker: do not pass one)");
    if constexpr (!fits)
      return false;
    else
      return check_parameters();
  }
  static consteval bool check_parameters() {
    constexpr bool references = (takes_writable_reference<Parameter<I>> || ...);
    static_assert(
        !references,
        "kindred: a task cannot take a non-const reference, because the worker has a copy: take the value and return "
        "the new one, or share a kindred::SharedArray");
    constexpr bool spans = (takes_writable_span<Parameter<I>> || ...);
    static_assert(
        !spans,
        "kindred: a task cannot write through a span of its argument, because the worker has a copy: take std::span<const T> "
        "and return what is new, or share a kindred::SharedArray");
    if constexpr (references || spans)
      return false;
    else
      return check_values();
  }
  static consteval bool check_values() {
    if constexpr (!(check_argument<Sent<I>>() && ...)) {
      return false;
    } else {
      constexpr bool all_convert = (converts<I> && ...);
      static_assert(all_convert, "kindred: an argument does not convert to the type of the task's parameter");
      return all_convert && check_call() && check_result<typename Call::result>();
    }
  }

  static void encode_arguments([[maybe_unused]] Encoder& encoder,
                               std::add_rvalue_reference_t<A>... arguments) {
    (encode_as<Sent<I>>(encoder, std::forward<A>(arguments)), ...);
  }
  static typename Call::result call(F& function, [[maybe_unused]] Worker& worker,
                                    [[maybe_unused]] Arguments& arguments) {
    if constexpr (Call::takes_worker) {
      return std::invoke(function, worker, hand_over<Parameter<I>>(arguments.Held<I, Taken<I>>::value)...);
    } else {
      return std::invoke(function, hand_over<Parameter<I>>(arguments.Held<I, Taken<I>>::value)...);
    }
  }
};

template <class F, class... A>
consteval auto plan_task() {
  if constexpr (Signature<F>::known) {
    using Call = DeclaredCall<F, A...>;
    return TaskPlan<Call, typename Call::parameters, std::index_sequence_for<A...>, F, A...>{};
  } else {
    using Call = DeducedCall<F, A...>;
    return TaskPlan<Call, typename Call::parameters, std::index_sequence_for<A...>, F, A...>{};
  }
}

/// A task of function `F` (decayed) with the argument types that `submit(F, A&&...)` deduces: `A` is a
/// reference type for an lvalue.
///
/// Each argument is sent as the type of the function's parameter, converted in the parent as in a call; where
/// the function is a template or overloaded, as its own decayed type. `const char*`, string_view and span are
/// sent as a string or vector. A parameter of such a type refers to the bytes of the message, in the worker,
/// until the task ends. A first parameter `Worker&` is the worker's own.
template <class F, class... A>
struct TaskTypes {
  static_assert(std::is_same_v<F, std::decay_t<F>>);
  using plan = decltype(plan_task<F, A...>());
  using call_type = std::conditional_t<Signature<F>::known, DeclaredCall<F, A...>, DeducedCall<F, A...>>;

  /// What the future holds.
  using result_t = std::remove_cv_t<typename call_type::result>;
  using sent_tuple = typename plan::sent_tuple;
  using arguments_t = typename plan::Arguments;  ///< constructed from a Decoder: reads the arguments in order
  using sent_arguments_t = typename plan::SentArguments;  ///< the same, with nothing left in the message
  static constexpr FunctionKind function = function_kind<F>();
  static constexpr bool takes_worker = call_type::takes_worker;

  /// Fails to compile, with the reason and the substitute, unless all of it can cross. Call it before
  /// anything else.
  static consteval bool check() {
    if constexpr (!check_function<F>())
      return false;
    else
      return plan::check();
  }
  /// Parent. Errors: those of `encode`, and what a conversion throws.
  static void encode_arguments(Encoder& encoder, std::add_rvalue_reference_t<A>... arguments) {
    plan::encode_arguments(encoder, std::forward<A>(arguments)...);
  }
  /// Worker. Calls the function once: it may take the arguments' values away.
  static result_t call(F& task, Worker& worker, arguments_t& arguments) {
    return plan::call(task, worker, arguments);
  }
  static result_t invoke(F& task, Worker& worker, Decoder& decoder) {
    arguments_t arguments{decoder};
    return call(task, worker, arguments);
  }
};

}  // namespace kindred::internal
