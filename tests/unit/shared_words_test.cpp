// The lock word of shared objects, and where their handles may not go.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/shared_object_channel.hpp"
#include "shared/handles.hpp"
#include "shared/owner_word.hpp"
#include "shared/per_process.hpp"
#include "shared/sleep.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace std::chrono_literals;

namespace {

const kindred::internal::Deadline past{std::chrono::steady_clock::time_point{}};

}  // namespace

TEST_CASE("one owner has the lock, another one waits for it no longer than its deadline") {
  owner_word::Word word{0};
  CHECK(owner_word::try_lock(word, 1));
  CHECK_FALSE(owner_word::try_lock(word, 2));
  CHECK(owner_word::lock(word, 2, past) == owner_word::Outcome::timed_out);
  owner_word::unlock(word);
  CHECK(owner_word::lock(word, 2, past) == owner_word::Outcome::locked);
  owner_word::unlock(word);
}

TEST_CASE("a lock is counted right by threads that take it all the time") {
  owner_word::Word word{0};
  int counter = 0;
  std::vector<std::thread> threads;
  for (std::uint32_t owner = 2; owner < 5; ++owner) {
    threads.emplace_back([&, owner] {
      for (int i = 0; i < 2000; ++i) {
        REQUIRE(owner_word::lock(word, owner, {}) == owner_word::Outcome::locked);
        ++counter;
        owner_word::unlock(word);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(counter == 6000);
  CHECK((word & owner_word::owner_mask) == 0);
}

TEST_CASE("a dead owner's lock goes to its heir or is free, with the mark, and no living owner's does") {
  owner_word::Word word{0};
  REQUIRE(owner_word::try_lock(word, 7));
  CHECK_FALSE(owner_word::take_from(word, 8, 1, owner_word::abandoned));
  CHECK((word & owner_word::owner_mask) == 7);
  CHECK(owner_word::take_from(word, 7, 1, owner_word::abandoned));
  CHECK((word & owner_word::owner_mask) == 1);
  CHECK((word & owner_word::abandoned) != 0);
  CHECK(owner_word::take_from(word, 1, 0, 0));
  CHECK((word & owner_word::owner_mask) == 0);
}

TEST_CASE("a closed lock is taken by nobody any more") {
  owner_word::Word word{0};
  owner_word::close(word);
  CHECK(owner_word::lock(word, 2, {}) == owner_word::Outcome::closed);
  CHECK_FALSE(owner_word::try_lock(word, 2));
}

TEST_CASE("handles are refused within a scope, nested ones too, and named in the refusal") {
  CHECK_FALSE(handles_are_refused());
  {
    const NoHandlesScope outer;
    {
      const NoHandlesScope inner;
      CHECK(handles_are_refused());
    }
    CHECK(handles_are_refused());
  }
  CHECK_FALSE(handles_are_refused());
  CHECK_THROWS_CONTAINS(throw_refused_in_channel("Mutex"), UsageError, "Mutex");
}

TEST_CASE("a process has one table of a kind, whichever thread asks") {
  struct Table {
    int number = 0;
  };
  per_process<Table>().number = 7;
  int seen = 0;
  std::thread{[&] { seen = per_process<Table>().number; }}.join();
  CHECK(seen == 7);
}

TEST_CASE("a sleep ends when its word has changed, and at the deadline when it has not") {
  const std::atomic<std::uint32_t> word{5};
  CHECK(spin_then_sleep(word, 4, {}));
  CHECK_FALSE(spin_then_sleep(word, 5, past));
  CHECK(is_past(past));
  CHECK_FALSE(is_past({}));
}
