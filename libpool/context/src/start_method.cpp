#include "kindred/start_method.hpp"

#include <cstdlib>
#include <string>

#include "kindred/error.hpp"

namespace kindred {

std::string_view to_string(StartMethod method) noexcept {
  switch (method) {
    case StartMethod::fork: return "fork";
    case StartMethod::spawn: return "spawn";
    case StartMethod::forkserver: return "forkserver";
  }
  return "unknown";
}

StartMethod parse_start_method(std::string_view text) {
  for (const auto method : {StartMethod::fork, StartMethod::spawn, StartMethod::forkserver}) {
    if (text == to_string(method)) return method;
  }
  throw UsageError{"unknown start method '" + std::string{text} + "'. Use one of: fork, spawn, forkserver."};
}

StartMethod default_start_method() {
  const char* const chosen = std::getenv("KINDRED_START_METHOD");
  if (chosen == nullptr || *chosen == '\0') return StartMethod::forkserver;
  try {
    return parse_start_method(chosen);
  } catch (const UsageError& error) {
    throw UsageError{std::string{"the environment variable KINDRED_START_METHOD holds an "} + error.what()};
  }
}

}  // namespace kindred
