#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "collect/source.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/log_area.hpp"
#include "record/level_table.hpp"

namespace kindred::internal {

/// Which level each process of the log has, and the words in shared memory by which the process knows it. Any
/// thread.
class LevelBoard {
 public:
  using WorkerLevels = std::unordered_map<int, Level>;
  /// Called where the levels have changed, with the board's lock.
  using Changed = std::function<void(const LevelSettings&, const WorkerLevels&)>;
  /// A process that logs.
  struct Target {
    SourceId id{};
    int worker = -1;
    LogControl* control = nullptr;
    NamedLevels* named = nullptr;
    std::shared_ptr<const void> keep_alive;
    std::shared_ptr<SourceCounters> counters;
  };

  /// `floor`: what is recorded in any case, for the flight recorder.
  LevelBoard(LevelSettings settings, std::optional<Level> floor)
      : floor_{floor.value_or(Level::off)}, settings_{std::move(settings)} {}

  /// What follows from a change. Before any other thread knows the board.
  void on_change(Changed changed) { changed_ = std::move(changed); }
  [[nodiscard]] Level level() const noexcept;
  void set(Level level);
  /// Errors: `UsageError`, where the name is too long, or there are too many.
  void set(std::string_view logger, Level level);
  void set(int worker, Level level);

  /// Tells the process its levels, now and whenever they change.
  void add(Target target);
  void remove(SourceId id);
  [[nodiscard]] std::size_t targets() const noexcept;
  /// Returns the counters of that process; null: there is none.
  [[nodiscard]] std::shared_ptr<SourceCounters> counters_of(SourceId id) const;

 private:
  void write(const Target& target) const noexcept;
  void publish() const;

  const Level floor_;
  Changed changed_;
  mutable std::mutex mutex_;  // of what follows
  LevelSettings settings_;
  WorkerLevels worker_levels_;
  std::vector<Target> targets_;
};

}  // namespace kindred::internal
