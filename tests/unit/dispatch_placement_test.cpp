// Which worker gets a call, how many calls a worker gets ahead, and which worker gives calls up. Pure
// decisions: no process, no clock.
#include "dispatch/placement.hpp"

#include <array>
#include <string>

#include <doctest/doctest.h>

#include "link/run_average.hpp"

using namespace kindred::internal;

namespace {

// One tick is a nanosecond.
const PlacementTimes times{1};
constexpr unsigned many_cores = 64;
constexpr double unknown = 0;

struct FakeWorker {
  std::string name;
};
using TestPlacement = Placement<FakeWorker>;
const auto runs_briefly = [] { return false; };
const auto runs_for_long = [] { return true; };

}  // namespace

TEST_CASE("a worker of unknown run time gets one call ahead, one of short tasks as many as last half a ms") {
  CHECK(prefetch_limit(times, false, unknown) == 2);
  CHECK(prefetch_limit(times, false, 1'000) == 501);
  CHECK(prefetch_limit(times, false, 400'000) == 2);
  CHECK(prefetch_limit(times, false, 5e9) == 2);
  CHECK(prefetch_limit(times, false, 1) == 1 + max_calls_ahead);
}

TEST_CASE("a worker that starts, and each worker once priorities are used, gets one call at a time") {
  CHECK(prefetch_limit(times, true, 1'000) == 1);
  CHECK_FALSE(has_enough_ahead(times, true, 0, 1'000));
  CHECK(has_enough_ahead(times, true, 1, 1'000));
}

TEST_CASE("a worker that has as many calls as its limit has enough ahead, and one with fewer has not") {
  for (const double average : {unknown, 1.0, 100.0, 1'000.0, 30'000.0, 400'000.0, 5e9}) {
    CAPTURE(average);
    const auto limit = static_cast<std::int64_t>(prefetch_limit(times, false, average));
    CHECK(has_enough_ahead(times, false, limit + 1, average));
    CHECK_FALSE(has_enough_ahead(times, false, limit - 1, average));
  }
}

TEST_CASE("a worker that spins is preferred to one that sleeps") {
  FakeWorker spins, sleeps;
  TestPlacement placement{times, many_cores};
  placement.consider_idle(sleeps, true);
  placement.consider_idle(spins, false);
  CHECK(placement.choose().worker == &spins);
  CHECK_FALSE(placement.choose().look_again);
}

TEST_CASE("short tasks are packed on a busy worker, and more work goes to an idle one") {
  struct Row {
    std::int64_t calls;
    double average;
    bool idle_sleeps;
    bool to_busy;
  };
  // Packed below 8 us of work where the idle worker spins, below 30 us where it must be woken and a core is
  // free.
  constexpr std::array rows{Row{1, 7'000, false, true},   Row{1, 8'000, false, false},
                            Row{3, 2'000, false, true},   Row{4, 2'000, false, false},
                            Row{1, 29'000, true, true},   Row{1, 30'000, true, false},
                            Row{14, 2'000, true, true},   Row{15, 2'000, true, false},
                            Row{1, unknown, true, false}, Row{1, unknown, false, false}};
  for (const Row& row : rows) {
    CAPTURE(row.calls);
    CAPTURE(row.average);
    CAPTURE(row.idle_sleeps);
    FakeWorker busy, idle;
    TestPlacement placement{times, many_cores};
    placement.consider_busy(busy, {.calls = row.calls, .average = row.average}, runs_briefly);
    placement.consider_idle(idle, row.idle_sleeps);
    CHECK(placement.choose().worker == (row.to_busy ? &busy : &idle));
    // The average may be wrong, so an idle worker that was passed over is thought of again soon.
    CHECK(placement.choose().look_again == row.to_busy);
  }
}

TEST_CASE(
    "where this thread and busy workers have all cores, a sleeping worker is woken for 100 us of work") {
  struct Row {
    unsigned cores;
    unsigned busy;
    double work;
    bool to_busy;
  };
  constexpr std::array rows{Row{3, 1, 99'000, false}, Row{2, 1, 99'000, true},  Row{2, 1, 100'000, false},
                            Row{1, 1, 99'000, true},  Row{4, 2, 99'000, false}, Row{4, 3, 99'000, true},
                            Row{4, 3, 100'000, false}};
  for (const Row& row : rows) {
    CAPTURE(row.cores);
    CAPTURE(row.busy);
    CAPTURE(row.work);
    FakeWorker idle;
    std::array<FakeWorker, 3> busy;
    TestPlacement placement{times, row.cores};
    placement.consider_idle(idle, true);
    for (unsigned i = 0; i < row.busy; ++i)
      placement.consider_busy(busy.at(i), {.calls = 1, .average = row.work}, runs_briefly);
    CHECK(placement.choose().worker == (row.to_busy ? &busy[0] : &idle));
  }
}

TEST_CASE("a worker whose ring is full is not chosen, and counts among those that have a core") {
  FakeWorker full, busy, idle;
  TestPlacement placement{times, 3};
  placement.consider_busy(full, {.full = true, .calls = 1, .average = 1'000}, runs_briefly);
  CHECK(placement.choose().worker == nullptr);
  placement.consider_idle(idle, true);
  CHECK(placement.choose().worker == &idle);
  placement.consider_busy(busy, {.calls = 1, .average = 50'000}, runs_briefly);
  CHECK(placement.choose().worker == &busy);
}

TEST_CASE("of busy workers the one that would start the call soonest is chosen, and the first of equals") {
  FakeWorker slow, quick, quick_too;
  TestPlacement placement{times, many_cores};
  placement.consider_busy(slow, {.calls = 1, .average = 90'000}, runs_briefly);
  placement.consider_busy(quick, {.calls = 2, .average = 20'000}, runs_briefly);
  placement.consider_busy(quick_too, {.calls = 2, .average = 20'000}, runs_briefly);
  CHECK(placement.choose().worker == &quick);
}

TEST_CASE("a worker whose call runs long gets one more call where it has no other, after all others") {
  FakeWorker long_one, starting;
  TestPlacement alone{times, many_cores};
  alone.consider_busy(long_one, {.calls = 1, .average = 1'000}, runs_for_long);
  CHECK(alone.choose().worker == &long_one);

  TestPlacement full{times, many_cores};
  full.consider_busy(long_one, {.calls = 2, .average = 1'000}, runs_for_long);
  CHECK(full.choose().worker == nullptr);

  TestPlacement both{times, many_cores};
  both.consider_busy(long_one, {.calls = 1, .average = 1'000}, runs_for_long);
  both.consider_busy(starting, {.starts = true, .calls = 0, .average = 1'000}, runs_briefly);
  CHECK(both.choose().worker == &starting);
}

TEST_CASE("once priorities are used, a worker with a call gets no further one, even where it runs long") {
  FakeWorker worker;
  TestPlacement placement{times, many_cores};
  placement.consider_busy(worker, {.one_at_a_time = true, .calls = 1, .average = 1'000}, runs_for_long);
  placement.consider_busy(worker, {.one_at_a_time = true, .calls = 1, .average = 1'000}, runs_briefly);
  CHECK(placement.choose().worker == nullptr);
}

TEST_CASE(
    "a worker is unresponsive 10 ms after its last sign of progress, and not if that lies in the future") {
  CHECK_FALSE(is_unresponsive(times, 1'000, 10'000'999));
  CHECK(is_unresponsive(times, 1'000, 10'001'000));
  CHECK_FALSE(is_unresponsive(times, 20'000'000, 1'000));
}

TEST_CASE("calls are taken from the worker with the most unstarted ones that is blocked") {
  FakeWorker young, blocked, more_blocked, empty;
  RebalancePlan<FakeWorker> plan;
  plan.consider(young, 50, false);
  plan.consider(blocked, 2, true);
  plan.consider(more_blocked, 3, true);
  plan.consider(empty, 0, true);
  CHECK(plan.victim() == &more_blocked);
  CHECK(plan.look_again());
}

TEST_CASE("calls behind a young call stay where they are, and are looked at again") {
  FakeWorker young;
  RebalancePlan<FakeWorker> plan;
  plan.consider(young, 50, false);
  CHECK(plan.victim() == nullptr);
  CHECK(plan.look_again());
  RebalancePlan<FakeWorker> nothing_waits;
  nothing_waits.consider(young, 0, false);
  CHECK_FALSE(nothing_waits.look_again());
}

namespace {

void note(RunAverage& average, std::uint64_t ran, std::size_t times_over = 1) {
  for (std::size_t i = 0; i < times_over; ++i) {
    RunAverage::Batch batch;
    batch.max_counted = RunAverage::max_counted(average.ticks(), 1'000);
    batch.add(ran, 0);
    average.move_towards(static_cast<double>(batch.counted), RunAverage::kept_share(1), 1'000);
  }
}

}  // namespace

TEST_CASE("the first result is the average, and later ones move it by an eighth") {
  RunAverage average;
  CHECK_FALSE(average.known());
  note(average, 8'000);
  CHECK(average.ticks() == 8'000);
  note(average, 16'000);
  CHECK(average.ticks() == 9'000);
  average.forget();
  CHECK_FALSE(average.known());
}

TEST_CASE("one interrupted task does not look like a change, and a real change is followed within 30 tasks") {
  RunAverage average;
  note(average, 1'000);
  note(average, 10'000'000);  // the kernel ran something else for 10 ms
  CHECK(average.ticks() < 4'000);
  note(average, 1'000, 30);
  CHECK(average.ticks() < 1'100);
  note(average, 100'000, 30);
  CHECK(average.ticks() > 90'000);
}

TEST_CASE("a worker that lies about its times moves the average no further than a long task does") {
  RunAverage average;
  note(average, ~std::uint64_t{0});
  CHECK(average.ticks() <= static_cast<double>(RunAverage::longest_counted_ticks));
}
