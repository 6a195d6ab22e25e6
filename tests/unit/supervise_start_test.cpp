// Whether and when a worker is started: no process, and a clock that the test moves.
#include "supervise/start_plan.hpp"

#include <doctest/doctest.h>

using namespace kindred::internal;
using namespace std::chrono_literals;

namespace {

const StartFacts::Time start{1000s};
const StartFacts wanted{.is_wanted = true};

StartFacts with(auto change) {
  StartFacts facts = wanted;
  change(facts);
  return facts;
}

}  // namespace

TEST_CASE("a worker is started only where one is wanted, and one after the other") {
  CHECK(next_start_step({}, start) == StartStep::none);
  CHECK(next_start_step(wanted, start) == StartStep::prepare);
  CHECK(next_start_step(with([](auto& facts) { facts.is_in_hand = true; }), start) == StartStep::none);
}

TEST_CASE("the wish for a worker is dropped where it has no use, or no slot") {
  CHECK(next_start_step(with([](auto& facts) { facts.has_use = false; }), start) == StartStep::want_none);
  CHECK(next_start_step(with([](auto& facts) { facts.has_slot = false; }), start) == StartStep::want_none);
}

TEST_CASE("after failures a start waits for its moment, whatever else is so") {
  const auto facts = with([](auto& changed) {
    changed.may_start = start + 50ms;
    changed.has_slot = false;
  });
  CHECK(next_start_step(facts, start) == StartStep::none);
  CHECK(next_start_step(facts, start + 50ms) == StartStep::want_none);
  CHECK(next_start_look(facts) == start + 50ms);
}

TEST_CASE("a fork server that preloads for longer than it may is ended, and not before") {
  const auto facts = with([](auto& changed) {
    changed.preparing_since = start;
    changed.preload_limit = 3s;
  });
  CHECK(next_start_step(facts, start + 2999ms) == StartStep::prepare);
  CHECK(next_start_step(facts, start + 3s) == StartStep::end_fork_server);
  CHECK(next_start_look(facts) == start + 3s);
}

TEST_CASE("a preload without a limit is waited for: only its news wake the supervisor") {
  const auto facts = with([](auto& changed) { changed.preparing_since = start; });
  CHECK(next_start_step(facts, start + 24h) == StartStep::prepare);
  CHECK_FALSE(next_start_look(facts).has_value());
  CHECK_FALSE(next_start_look({}).has_value());
}
