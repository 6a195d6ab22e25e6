#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "collect/collector_state.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

Level lower(Level a, Level b) noexcept { return a < b ? a : b; }

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

void Collector::State::write_levels(const Target& target) const noexcept {
  LogControl& control = *target.control;
  Level level = levels.level;
  if (const auto own = worker_levels.find(target.worker); own != worker_levels.end()) level = own->second;
  const Level floor = options.flight_recorder.value_or(Level::off);
  const std::uint32_t word = control.levels.load(std::memory_order_relaxed);
  const std::uint32_t generation = ((word >> levels_generation_shift) + 1) << levels_generation_shift;
  const auto value = static_cast<std::uint32_t>(lower(level, floor));
  // Order: release on each, the table between two generations: a reader that saw anything of it sees that the
  // word has changed.
  control.levels.store(generation | levels_busy | value, std::memory_order_release);
  std::size_t count = 0;
  for (const auto& [name, its] : levels.named) {
    char text[sizeof(NamedLevel)] = {};
    text[0] = static_cast<char>(name.size());
    text[1] = static_cast<char>(lower(its, floor));
    std::memcpy(text + 2, name.data(), name.size());
    for (std::size_t w = 0; w < 8; ++w) {
      std::uint64_t bits;
      std::memcpy(&bits, text + w * sizeof bits, sizeof bits);
      target.named->each[count].words[w].store(bits, std::memory_order_release);
    }
    ++count;
  }
  target.named->count.store(static_cast<std::uint32_t>(count), std::memory_order_release);
  control.levels.store(generation | value, std::memory_order_release);
}

void Collector::State::publish_levels() {
  for (const Target& target : targets) write_levels(target);
  if (options.flight_recorder) {
    command([settings = levels, workers = worker_levels](Drain& its_drain) {
      its_drain.levels = settings;
      its_drain.worker_levels = workers;
    });
  }
}

void Collector::State::set_level(Level level) {
  const std::lock_guard hold{levels_lock};
  levels.level = level;
  publish_levels();
}

void Collector::State::set_level(std::string_view name, Level level) {
  if (name.size() > NamedLevel::longest_name) {
    throw UsageError{fmt::format(
        "the logger name '{}' has {} bytes; a level can be set for names of up to {}. Set it for a part of the name.",
        name, name.size(), NamedLevel::longest_name)};
  }
  const std::lock_guard hold{levels_lock};
  if (name.empty()) {
    levels.level = level;
  } else if (!levels.set(name, level) && levels.named.size() > NamedLevels::most) {
    levels.named.pop_back();
    throw UsageError{fmt::format(
        "the level of '{}' would be the {}st that is set by name; there is room for {}. Set levels for parts of "
        "names that several loggers have in common.",
        name, NamedLevels::most + 1, NamedLevels::most)};
  }
  publish_levels();
}

void Collector::State::set_level(int worker, Level level) {
  const std::lock_guard hold{levels_lock};
  worker_levels[worker] = level;
  publish_levels();
}

void Collector::State::answer_set_level(const TailRequest& request, TailVisit& visit) {
  std::string what;
  try {
    if (!request.logger.empty() && !request.workers.empty()) {
      what = "a level is set for a logger or for workers, not for a logger in some workers";
    } else if (!request.logger.empty()) {
      set_level(std::string_view{request.logger}, request.level);
    } else if (!request.workers.empty()) {
      for (const int worker : request.workers) set_level(worker, request.level);
    } else {
      set_level(request.level);
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

void Collector::set_level(Level level) { state_->set_level(level); }
void Collector::set_level(std::string_view logger, Level level) { state_->set_level(logger, level); }
void Collector::set_level(int worker, Level level) { state_->set_level(worker, level); }

Level Collector::level() const noexcept {
  const std::lock_guard hold{state_->levels_lock};
  return state_->levels.level;
}

}  // namespace kindred::internal
