#include <string>
#include <utility>

#include <fmt/format.h>

#include "collect/collector_state.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

std::string whose_level(const TailRequest& request) {
  if (!request.logger.empty()) return fmt::format("the loggers below '{}'", request.logger);
  if (request.workers.empty()) return "all loggers";
  std::string workers;
  for (const int worker : request.workers) {
    if (!workers.empty()) workers += ", ";
    workers += worker < 0 ? "the parent" : fmt::format("worker {}", worker);
  }
  return workers;
}

}  // namespace

void Collector::State::answer_set_level(const TailRequest& request, TailVisit& visit) {
  std::string what;
  try {
    if (!request.logger.empty() && !request.workers.empty()) {
      what = "a level is set for a logger or for workers, not for a logger in some workers";
    } else if (!request.logger.empty()) {
      levels.set(std::string_view{request.logger}, request.level);
    } else if (!request.workers.empty()) {
      for (const int worker : request.workers) levels.set(worker, request.level);
    } else {
      levels.set(request.level);
    }
  } catch (const UsageError& error) {
    what = error.what();
  }
  TextBuffer line;
  line.push_back(what.empty() ? tail_answer::done : tail_answer::refused);
  if (!what.empty()) {
    line.push_back(' ');
    append_escaped(line, what);
  }
  line.push_back('\n');
  if (what.empty()) {
    LogRecord record;
    record.origin = Origin::lifecycle;
    record.message =
        fmt::format("kindred-tail set the level of {} to {}", whose_level(request), to_string(request.level));
    emit(std::move(record));
  }
  static_cast<void>(visit.send(line.view()));
}

}  // namespace kindred::internal
