#include "collect/level_board.hpp"

#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "kindred/error.hpp"

namespace kindred::internal {
namespace {

Level lower(Level a, Level b) noexcept { return a < b ? a : b; }

}  // namespace

void LevelBoard::write(const Target& target) const noexcept {
  LogControl& control = *target.control;
  Level level = settings_.level;
  if (const auto own = worker_levels_.find(target.worker); own != worker_levels_.end()) level = own->second;
  const std::uint32_t word = control.levels.load(std::memory_order_relaxed);
  const std::uint32_t generation = ((word >> levels_generation_shift) + 1) << levels_generation_shift;
  const auto value = static_cast<std::uint32_t>(lower(level, floor_));
  // Order: release on each, the table between two generations: a reader that saw anything of it sees that the
  // word has changed.
  control.levels.store(generation | levels_busy | value, std::memory_order_release);
  std::size_t count = 0;
  for (const auto& [name, its] : settings_.named) {
    char text[sizeof(NamedLevel)] = {};
    text[0] = static_cast<char>(name.size());
    text[1] = static_cast<char>(lower(its, floor_));
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

void LevelBoard::publish() const {
  for (const Target& target : targets_) write(target);
  if (changed_) changed_(settings_, worker_levels_);
}

Level LevelBoard::level() const noexcept {
  const std::scoped_lock hold{mutex_};
  return settings_.level;
}

void LevelBoard::set(Level level) {
  const std::scoped_lock hold{mutex_};
  settings_.level = level;
  publish();
}

void LevelBoard::set(std::string_view name, Level level) {
  if (name.size() > NamedLevel::longest_name) {
    throw UsageError{fmt::format(
        "the logger name '{}' has {} bytes; a level can be set for names of up to {}. Set it for a part of the name.",
        name, name.size(), NamedLevel::longest_name)};
  }
  const std::scoped_lock hold{mutex_};
  if (name.empty()) {
    settings_.level = level;
  } else if (!settings_.set(name, level) && settings_.named.size() > NamedLevels::max_names) {
    settings_.named.pop_back();
    throw UsageError{fmt::format(
        "the level of '{}' would be the {}st that is set by name; there is room for {}. Set levels for parts of "
        "names that several loggers have in common.",
        name, NamedLevels::max_names + 1, NamedLevels::max_names)};
  }
  publish();
}

void LevelBoard::set(int worker, Level level) {
  const std::scoped_lock hold{mutex_};
  worker_levels_[worker] = level;
  publish();
}

void LevelBoard::add(Target target) {
  const std::scoped_lock hold{mutex_};
  targets_.push_back(std::move(target));
  write(targets_.back());
}

void LevelBoard::remove(SourceId id) {
  const std::scoped_lock hold{mutex_};
  std::erase_if(targets_, [&](const Target& target) { return target.id == id; });
}

std::size_t LevelBoard::targets() const noexcept {
  const std::scoped_lock hold{mutex_};
  return targets_.size();
}

std::shared_ptr<SourceCounters> LevelBoard::counters_of(SourceId id) const {
  const std::scoped_lock hold{mutex_};
  for (const Target& target : targets_) {
    if (target.id == id) return target.counters;
  }
  return nullptr;
}

}  // namespace kindred::internal
