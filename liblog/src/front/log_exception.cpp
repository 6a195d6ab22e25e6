#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <typeinfo>

#include "kindred/log.hpp"

namespace kindred {
namespace {

std::string readable(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name{
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free};
  return name != nullptr ? name.get() : mangled;
}

struct Told {
  std::string type;
  std::string what;
};

Told tell(const std::exception_ptr& exception, std::exception_ptr& cause) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    if (const auto* const nested = dynamic_cast<const std::nested_exception*>(&error))
      cause = nested->nested_ptr();
    // std::throw_with_nested throws a class of its own, derived from what was thrown: its name says nothing.
    auto type = readable(typeid(error).name());
    constexpr std::string_view wrapper = "std::_Nested_exception<";
    if (type.starts_with(wrapper) && type.ends_with('>'))
      type = type.substr(wrapper.size(), type.size() - wrapper.size() - 1);
    return {type, error.what()};
  } catch (const std::string& text) {
    return {"std::string", text};
  } catch (const char* text) {
    return {"const char*", text != nullptr ? text : ""};
  } catch (const std::nested_exception& nested) {
    cause = nested.nested_ptr();
    return {"an exception that is no std::exception", ""};
  } catch (...) {
    const auto* const type = abi::__cxa_current_exception_type();
    return {type != nullptr ? readable(type->name()) : std::string{"an unknown type"}, ""};
  }
}

void log_it(const internal::LogTarget& target, LevelCode level, const std::exception_ptr& exception,
            std::string_view text, const std::source_location& where) noexcept {
  const internal::CallSite site{{}, where, true};
  try {
    std::string message{text};
    if (exception == nullptr) {
      message += message.empty() ? "no exception" : ": no exception";
      return internal::write_message(target, level, site, message, {});
    }
    constexpr int deepest = 32;
    std::exception_ptr next = exception;
    Field fields[2];
    for (int depth = 0; next != nullptr && depth < deepest; ++depth) {
      std::exception_ptr cause;
      const Told told = tell(next, cause);
      if (depth > 0)
        message += ", caused by ";
      else if (!message.empty())
        message += ": ";
      message += told.type;
      if (!told.what.empty()) message += ": " + told.what;
      if (depth == 0) {
        fields[0] = {"exception", told.type};
        fields[1] = {"what", told.what};
      }
      next = cause;
    }
    internal::write_message(target, level, site, message, fields);
  } catch (const std::exception&) {
    internal::write_message(target, level, site, text, {});
  }
}

}  // namespace

void log_exception(LevelCode level, const std::exception_ptr& exception, std::string_view text,
                   std::source_location where) noexcept {
  if (internal::process_enabled(level)) log_it(internal::ProcessTarget{}, level, exception, text, where);
}

void log_exception(const Logger& logger, LevelCode level, const std::exception_ptr& exception,
                   std::string_view text, std::source_location where) {
  if (logger.enabled(level)) log_it(logger.target(), level, exception, text, where);
}

}  // namespace kindred
