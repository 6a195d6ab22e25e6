#include "kindred/internal/exception_codec.hpp"

#include <algorithm>
#include <any>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <regex>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <typeinfo>
#include <variant>

namespace kindred::internal {

namespace {

constexpr std::size_t longest_text = 64 * 1024;
constexpr std::size_t longest_chain = 32;

// --- names and texts

std::string type_name_of(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name{
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free};
  std::string text = name ? name.get() : type.name();
  // What throw_with_nested throws is named after what was given to it, and a string as people know it.
  constexpr std::string_view nested = "std::_Nested_exception<";
  if (text.starts_with(nested) && text.ends_with('>'))
    text = text.substr(nested.size(), text.size() - nested.size() - 1);
  if (text.ends_with(' ')) text.pop_back();
  for (const std::string_view inside :
       {"std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >"}) {
    if (text == inside) text = "std::string";
  }
  for (auto at = text.find("[abi:cxx11]"); at != std::string::npos; at = text.find("[abi:cxx11]"))
    text.erase(at, 11);
  return text;
}

std::string cut(std::string_view text) {
  if (text.size() <= longest_text) return std::string{text};
  return std::string{text.substr(0, longest_text)} + " ... (" + std::to_string(text.size() - longest_text) +
         " bytes more)";
}

// --- the standard's exceptions

// In the order of StandardException, so that the most derived that matches is found first.
template <class E>
struct Standard {
  using type = E;
};
template <class Visit>
auto with_standard(StandardException standard, Visit&& visit) {
  switch (standard) {
    case StandardException::filesystem_error: return visit(Standard<std::filesystem::filesystem_error>{});
    case StandardException::ios_failure: return visit(Standard<std::ios_base::failure>{});
    case StandardException::system_error: return visit(Standard<std::system_error>{});
    case StandardException::future_error: return visit(Standard<std::future_error>{});
    case StandardException::regex_error: return visit(Standard<std::regex_error>{});
    case StandardException::out_of_range: return visit(Standard<std::out_of_range>{});
    case StandardException::length_error: return visit(Standard<std::length_error>{});
    case StandardException::domain_error: return visit(Standard<std::domain_error>{});
    case StandardException::invalid_argument: return visit(Standard<std::invalid_argument>{});
    case StandardException::logic_error: return visit(Standard<std::logic_error>{});
    case StandardException::range_error: return visit(Standard<std::range_error>{});
    case StandardException::overflow_error: return visit(Standard<std::overflow_error>{});
    case StandardException::underflow_error: return visit(Standard<std::underflow_error>{});
    case StandardException::runtime_error: return visit(Standard<std::runtime_error>{});
    case StandardException::bad_array_new_length: return visit(Standard<std::bad_array_new_length>{});
    case StandardException::bad_alloc: return visit(Standard<std::bad_alloc>{});
    case StandardException::bad_any_cast: return visit(Standard<std::bad_any_cast>{});
    case StandardException::bad_cast: return visit(Standard<std::bad_cast>{});
    case StandardException::bad_typeid: return visit(Standard<std::bad_typeid>{});
    case StandardException::bad_function_call: return visit(Standard<std::bad_function_call>{});
    case StandardException::bad_optional_access: return visit(Standard<std::bad_optional_access>{});
    case StandardException::bad_variant_access: return visit(Standard<std::bad_variant_access>{});
    case StandardException::bad_weak_ptr: return visit(Standard<std::bad_weak_ptr>{});
    case StandardException::bad_exception: return visit(Standard<std::bad_exception>{});
    case StandardException::exception: break;
  }
  return visit(Standard<std::exception>{});
}

constexpr int standard_exceptions = static_cast<int>(StandardException::exception) + 1;

using Link = ExceptionDescription::Link;

void note_code(Link& link, const std::error_code& code) {
  link.code = code.value();
  link.category = category_number(code.category());
}

void describe_standard(Link& link, const std::exception& exception) {
  for (int i = 0; i != standard_exceptions; ++i) {
    const auto standard = static_cast<StandardException>(i);
    const bool is_one = with_standard(
        standard, [&]<class E>(Standard<E>) { return dynamic_cast<const E*>(&exception) != nullptr; });
    if (!is_one) continue;
    link.standard = standard;
    break;
  }
  if (const auto* system = dynamic_cast<const std::system_error*>(&exception))
    note_code(link, system->code());
  if (const auto* future = dynamic_cast<const std::future_error*>(&exception))
    note_code(link, future->code());
  if (const auto* regex = dynamic_cast<const std::regex_error*>(&exception))
    link.code = static_cast<std::int32_t>(regex->code());
  if (const auto* filesystem = dynamic_cast<const std::filesystem::filesystem_error*>(&exception)) {
    link.paths = {cut(filesystem->path1().native()), cut(filesystem->path2().native())};
  }
}

std::error_code error_code_of(const Link& link) {
  // A category that this process cannot name: the number stays, as a generic one says nothing of it.
  return {link.code,
          link.category == unknown_category ? std::generic_category() : standard_category(link.category)};
}

template <class E>
E make_standard(const Link& link) {
  if constexpr (std::is_same_v<E, std::filesystem::filesystem_error>) {
    if (link.paths.size() != 2) return E{link.text, error_code_of(link)};
    return E{link.text, link.paths[0], link.paths[1], error_code_of(link)};
  } else if constexpr (std::is_same_v<E, std::ios_base::failure>) {
    return E{link.text, error_code_of(link)};
  } else if constexpr (std::is_same_v<E, std::system_error>) {
    return E{error_code_of(link), link.text};
  } else if constexpr (std::is_same_v<E, std::future_error>) {
    return E{static_cast<std::future_errc>(link.code)};
  } else if constexpr (std::is_same_v<E, std::regex_error>) {
    // From another process: a number that is none of the codes would be looked up all the same.
    const bool known =
        link.code >= 0 && link.code <= static_cast<std::int32_t>(std::regex_constants::error_stack);
    return E{known ? static_cast<std::regex_constants::error_type>(link.code)
                   : std::regex_constants::error_stack};
  } else if constexpr (std::is_constructible_v<E, std::string>) {
    return E{link.text};
  } else {
    return E{};
  }
}

// --- describing

struct Looked {
  Link link;
  std::exception_ptr nested;
};

template <class Number>
std::string number_text(Number number) {
  if constexpr (std::is_same_v<Number, bool>)
    return number ? "true" : "false";
  else if constexpr (std::is_same_v<Number, char>)
    return {number};
  else
    return std::to_string(number);
}

/// The value of what was thrown where it is no exception class: of a number, a text.
std::string value_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const char* text) {
    return text == nullptr ? "" : cut(text);
  } catch (const std::string& text) {
    return cut(text);
  } catch (std::string_view text) {
    return cut(text);
  } catch (bool value) {
    return number_text(value);
  } catch (char value) {
    return number_text(value);
  } catch (int value) {
    return number_text(value);
  } catch (unsigned value) {
    return number_text(value);
  } catch (long value) {
    return number_text(value);
  } catch (unsigned long value) {
    return number_text(value);
  } catch (long long value) {
    return number_text(value);
  } catch (unsigned long long value) {
    return number_text(value);
  } catch (float value) {
    return number_text(value);
  } catch (double value) {
    return number_text(value);
  } catch (const std::error_code& code) {
    return cut(std::string{code.category().name()} + ":" + std::to_string(code.value()) + " " +
               code.message());
  } catch (...) {
    return {};
  }
}

Looked look_at(const std::exception_ptr& thrown) {
  Looked looked;
  if (!thrown) {
    looked.link.type = "an exception of another language";
    return looked;
  }
  looked.link.type = type_name_of(*thrown.__cxa_exception_type());
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& exception) {
    if (const auto* inner = dynamic_cast<const TaskError*>(&exception)) {
      // A pool inside a task: what its task threw is what matters, and its message tells the rest.
      looked.link.type = inner->type_name();
      looked.link.text = cut(inner->what());
    } else if (const char* text = exception.what(); text != nullptr) {
      looked.link.text = cut(text);
    }
    describe_standard(looked.link, exception);
    if (const auto* nested = dynamic_cast<const std::nested_exception*>(&exception))
      looked.nested = nested->nested_ptr();
  } catch (const std::nested_exception& nested) {
    looked.nested = nested.nested_ptr();
  } catch (...) {
    looked.link.text = value_of(thrown);
  }
  return looked;
}

// --- registered types

class Registry {
 public:
  void add(const ExceptionHandler& handler) {
    const std::lock_guard lock{mutex_};
    std::string name = handler.type->name();
    int same = 1;
    for (const auto& entry : entries_) {
      if (*entry.handler.type == *handler.type) return;
      // Classes of unnamed namespaces may share a name. They are registered in the same order in every
      // process of the program.
      if (std::string_view{entry.handler.type->name()} == handler.type->name()) ++same;
    }
    if (same > 1) name += "#" + std::to_string(same);
    entries_.push_back({handler, std::move(name)});
  }

  struct Entry {
    ExceptionHandler handler;
    std::string name;
  };
  [[nodiscard]] std::vector<Entry> entries() const {
    const std::lock_guard lock{mutex_};
    return entries_;
  }
  [[nodiscard]] std::optional<ExceptionHandler> find(std::string_view name) const {
    const std::lock_guard lock{mutex_};
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& entry) { return entry.name == name; });
    if (found == entries_.end()) return std::nullopt;
    return found->handler;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

/// Made when the first namespace-scope registration runs, and never destroyed: exceptions may be thrown in
/// static destructors too.
Registry& registry() {
  static auto* const made = new Registry;
  return *made;
}

std::span<std::byte> grow_bytes(void* owner, std::span<const std::byte> written, std::size_t more) {
  auto& bytes = *static_cast<std::vector<std::byte>*>(owner);
  bytes.resize(std::max(bytes.size() * 2, written.size() + more));
  return bytes;
}

void describe_object(ExceptionDescription& description, const std::exception_ptr& thrown, ContextId context) {
  for (const auto& entry : registry().entries()) {
    try {
      std::vector<std::byte> bytes(256);
      Encoder encoder{context, bytes, &grow_bytes, &bytes};
      if (!entry.handler.encode(encoder, thrown)) continue;
      if (!encoder.attachments().empty())
        return;  // a description outlives the message that shared memory came with
      const auto written = encoder.size();
      bytes.resize(written);
      description.registered = entry.name;
      description.object = std::move(bytes);
    } catch (...) {
      // Its own serialize threw: type and text are what is left.
    }
    return;
  }
}

// --- making

/// An exception nested in the task's: its type as far as it is a standard one, and its text.
template <class E>
class CauseAs : public E {
 public:
  CauseAs(const E& thrown, std::string text)
      : E(thrown), text_{std::make_shared<const std::string>(std::move(text))} {}
  [[nodiscard]] const char* what() const noexcept override { return text_->c_str(); }

 private:
  std::shared_ptr<const std::string> text_;
};

/// Calls `throw_it(has_cause)` while `cause` is handled, and catches what it throws.
template <class ThrowIt>
std::exception_ptr caught(const std::exception_ptr& cause, ThrowIt&& throw_it) {
  try {
    if (cause) {
      try {
        std::rethrow_exception(cause);
      } catch (...) {
        throw_it(true);
      }
    } else {
      throw_it(false);
    }
  } catch (...) {
    return std::current_exception();
  }
  return {};  // not reached: it throws
}

/// The exception with that cause, if there is one. An exception without a cause is never thrown here, only
/// made: to throw and to catch it costs more than all the rest of a failed task.
template <class Thrown>
std::exception_ptr made_with(Thrown thrown, const std::exception_ptr& cause) {
  if (!cause) return std::make_exception_ptr(std::move(thrown));
  return caught(cause, [&](bool) { throw WithCause<Thrown>{std::move(thrown)}; });
}

std::string said(const Link& link) {
  return link.text.empty() ? link.type + " without a text" : link.type + ": " + link.text;
}

void end_sentence(std::string& text) {
  if (!text.empty() && (text.back() == '.' || text.back() == '!' || text.back() == '?')) return;
  text += '.';
}

bool is_standard_type(const Link& link) { return link.type.starts_with("std::"); }

std::string message_of(const ExceptionDescription& description, const TaskFacts& facts) {
  const auto& thrown = description.chain.front();
  auto message = to_string(facts);
  switch (description.phase) {
    case TaskPhase::writing_arguments: message += " was not sent: while writing the arguments, "; break;
    case TaskPhase::reading_arguments: message += " was not called: while reading arguments, "; break;
    case TaskPhase::running: message += " threw "; break;
    case TaskPhase::writing_result: message += " returned, but while writing the result, "; break;
    case TaskPhase::reading_result:
      message += " returned, but while reading the result in the parent, ";
      break;
  }
  message += said(thrown);
  if (description.phase != TaskPhase::running) message += " was thrown";
  if (facts.worker >= 0) {
    message += " (worker " + std::to_string(facts.worker) + ", pid " + std::to_string(facts.pid);
    if (facts.attempt > 1) message += ", attempt " + std::to_string(facts.attempt);
    message += ')';
  }
  end_sentence(message);
  for (std::size_t i = 1; i != description.chain.size(); ++i) {
    message += " Caused by " + said(description.chain[i]);
    end_sentence(message);
  }
  switch (description.phase) {
    case TaskPhase::running:
      if (description.registered.empty() && !is_standard_type(thrown) &&
          thrown.type.find("::") != std::string::npos && !thrown.type.starts_with("kindred::")) {
        message +=
            " To catch it by its own type, register it: kindred::register_exception<" + thrown.type + ">().";
      }
      break;
    case TaskPhase::writing_arguments:
    case TaskPhase::reading_arguments:
      message += " The function did not run: mend the argument's serialize, and submit it again.";
      break;
    case TaskPhase::writing_result:
    case TaskPhase::reading_result:
      message += " The function did run: mend the serialize of what it returns.";
      break;
  }
  return message;
}

std::exception_ptr make_causes(const std::vector<Link>& chain) {
  std::exception_ptr cause;
  for (auto link = chain.rbegin(); link + 1 < chain.rend(); ++link) {
    with_standard(link->standard, [&]<class E>(Standard<E>) {
      cause = made_with(CauseAs<E>{make_standard<E>(*link), link->text}, cause);
    });
  }
  return cause;
}

}  // namespace

void add_exception_handler(const ExceptionHandler& handler) { registry().add(handler); }

ExceptionDescription describe(const std::exception_ptr& exception, TaskPhase phase, ContextId context) {
  ExceptionDescription description;
  description.phase = phase;
  auto looked = look_at(exception);
  description.chain.push_back(std::move(looked.link));
  while (looked.nested && description.chain.size() != longest_chain) {
    looked = look_at(looked.nested);
    description.chain.push_back(std::move(looked.link));
  }
  if (exception) describe_object(description, exception, context);
  return description;
}

std::exception_ptr make_exception(const ExceptionDescription& description, const TaskFacts& facts,
                                  ContextId context) noexcept {
  try {
    const auto& thrown = description.chain.front();
    auto details = std::make_shared<TaskErrorDetails>();
    details->facts = facts;
    details->phase = description.phase;
    details->type_name = thrown.type;
    details->text = thrown.text;
    for (std::size_t i = 1; i != description.chain.size(); ++i)
      details->causes.push_back({description.chain[i].type, description.chain[i].text});
    details->message = message_of(description, facts);
    if (!description.stack.empty() && facts.code)
      details->stack = std::make_shared<const RemoteStack>(description.stack, facts.code);
    const auto cause = make_causes(description.chain);
    const std::shared_ptr<const TaskErrorDetails> shared = std::move(details);

    if (!description.registered.empty()) {
      if (const auto handler = registry().find(description.registered)) {
        // Whether it comes from the handler's own throw, or from the type's deserialiser that failed, is seen
        // by what it is.
        bool decoded = false;
        auto made = caught(cause, [&](bool has_cause) {
          Decoder decoder{context, description.object};
          handler->decode_and_throw(decoder, shared, has_cause, decoded);
        });
        if (decoded) return made;
      }
    }
    std::exception_ptr made;
    with_standard(thrown.standard, [&]<class E>(Standard<E>) {
      made = made_with(TaskErrorAs<E>{make_standard<E>(thrown), shared}, cause);
    });
    return made;
  } catch (...) {
    return std::current_exception();  // memory is short: what says so stands for the task's exception
  }
}

std::string describe_exception(const std::exception_ptr& exception) {
  const auto description = describe(exception, TaskPhase::running, ContextId{});
  auto text = said(description.chain.front());
  for (std::size_t i = 1; i != description.chain.size(); ++i)
    text += ", caused by " + said(description.chain[i]);
  return text;
}

// --- bytes

namespace {

void put_description(Encoder& encoder, const ExceptionDescription& description) {
  encode(encoder, description.phase);
  encode(encoder, description.chain);
  encode(encoder, description.registered);
  encode(encoder, description.object);
  encode(encoder, description.stack);
}

/// What is written where memory is too short for a description, without allocating.
void put_short_description(Encoder& encoder, TaskPhase phase, std::string_view type, std::string_view text) {
  const auto put_text = [&](std::string_view what) { put_block(encoder, what.data(), what.size()); };
  encode(encoder, phase);
  encoder.write_value(std::uint64_t{1});
  put_text(type);
  put_text(text);
  encode(encoder, StandardException::exception);
  encode(encoder, std::int32_t{0});
  encode(encoder, std::uint8_t{0});
  encoder.write_value(std::uint64_t{0});  // paths
  encoder.write_value(std::uint64_t{0});  // registered
  encoder.write_value(std::uint64_t{0});  // object
  encoder.write_value(std::uint64_t{0});  // stack
}

}  // namespace

void encode_exception(Encoder& encoder, const std::exception_ptr& exception, TaskPhase phase) {
  const auto start = encoder.size();
  try {
    auto description = describe(exception, phase, encoder.context());
    description.stack = take_throw_stack();
    put_description(encoder, description);
  } catch (...) {
    encoder.truncate(start);
    put_short_description(encoder, phase, "an exception", "there was no memory to say which");
  }
}

void encode_forced_unwind(Encoder& encoder) {
  put_short_description(
      encoder, TaskPhase::running, "a forced unwind",
      "the task ended its thread (pthread_exit, pthread_cancel), and the worker's loop with it");
}

void replace_by_failure(Encoder& out, std::size_t start, std::size_t attachments, TaskPhase phase,
                        bool forced_unwind) {
  out.truncate(start);
  out.attachments().resize(attachments);
  out.depth() = 0;
  if (forced_unwind)
    encode_forced_unwind(out);
  else
    encode_exception(out, std::current_exception(), phase);
}

ExceptionDescription decode_description(Decoder& decoder) {
  ExceptionDescription description;
  description.phase = static_cast<TaskPhase>(
      get_byte(decoder, static_cast<unsigned>(TaskPhase::reading_result) + 1, "the phase of a failure"));
  description.chain = decode<std::vector<Link>>(decoder);
  description.registered = decode<std::string>(decoder);
  description.object = decode<std::vector<std::byte>>(decoder);
  description.stack = decode<std::vector<CodeReference>>(decoder);
  if (description.stack.size() > throw_stack_limit)
    throw DecodeError{"the message holds a failure with a stack that is too long"};
  if (description.chain.empty() || description.chain.size() > longest_chain)
    throw DecodeError{"the message holds a failure without an exception"};
  for (const auto& link : description.chain) {
    if (static_cast<int>(link.standard) >= standard_exceptions || link.category > unknown_category) {
      throw DecodeError{"the message holds an exception of an unknown kind"};
    }
  }
  return description;
}

std::exception_ptr decode_exception(Decoder& decoder, const TaskFacts& facts) noexcept {
  try {
    return make_exception(decode_description(decoder), facts, decoder.context());
  } catch (...) {
    return make_task_error(std::current_exception(), TaskPhase::reading_result, facts, decoder.context());
  }
}

std::exception_ptr make_task_error(const std::exception_ptr& original, TaskPhase phase,
                                   const TaskFacts& facts, ContextId context) noexcept {
  try {
    return make_exception(describe(original, phase, context), facts, context);
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace kindred::internal
