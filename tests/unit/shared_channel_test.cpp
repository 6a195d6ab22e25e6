#include <map>
#include <numeric>
#include <random>

#include "kindred/channel.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

namespace {

struct Job {
  int number;
  std::string text;
  std::vector<double> values;
  friend bool operator==(const Job&, const Job&) = default;
};

}  // namespace

TEST_CASE("a Channel gives what was sent, in order, once, and ends when it is closed and empty") {
  Pool pool;
  const auto channel = pool.registry.make_channel<Job>(3);
  const Message message = pack(pool.id, channel);
  Worker sender{pool, [&] {
                  const auto mine = unpack<Channel<Job>>(pool.id, message);
                  for (int i = 0; i < 1000; ++i)
                    mine.send({i, std::string(static_cast<std::size_t>(i % 300), 'x'), {1.0 * i, 2.0}});
                  mine.close();
                }};
  int next = 0;
  while (const auto job = channel.receive()) {
    CHECK((*job == Job{next, std::string(static_cast<std::size_t>(next % 300), 'x'), {1.0 * next, 2.0}}));
    ++next;
  }
  CHECK(next == 1000);
  CHECK(sender.end() == 0);
  CHECK(channel.closed());
  CHECK_FALSE(channel.try_receive());
  CHECK_THROWS_CONTAINS(channel.send({}), UsageError, "was closed");
}

TEST_CASE("a Channel is bounded, and its waits end in time") {
  Pool pool;
  const auto channel = pool.registry.make_channel<int>(2);
  CHECK(channel.capacity() == 2);
  CHECK(channel.empty());
  CHECK_FALSE(channel.try_receive());
  auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(channel.receive_for(20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK(channel.try_send(1));
  CHECK(channel.send_for(2, 1s));
  CHECK_FALSE(channel.try_send(3));
  begin = std::chrono::steady_clock::now();
  CHECK_FALSE(channel.send_for(3, 20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK_FALSE(channel.send_until(3, std::chrono::system_clock::now() + 1ms));
  CHECK(channel.size() == 2);
  Sleeper sender{[&] { channel.send(3); }};
  CHECK(channel.receive() == 1);
  sender.join();
  CHECK(channel.receive() == 2);
  CHECK(channel.receive_until(std::chrono::system_clock::now() + 1s) == 3);
  Sleeper receiver{[&] { CHECK_FALSE(channel.receive()); }};
  channel.close();
}

TEST_CASE("a Channel's elements of all sizes wrap round its room, and one that is too large is refused") {
  Pool pool;
  const auto channel = pool.registry.make_channel<std::string>(1000, 4096);
  const std::string largest(3000, 'l');
  std::mt19937 random{1};
  std::vector<std::string> sent;
  for (int round = 0; round < 2000; ++round) {
    std::string element(random() % 1500, static_cast<char>('a' + round % 26));
    while (!channel.try_send(element)) {
      const auto received = channel.try_receive();
      REQUIRE(received);
      REQUIRE(*received == sent.front());
      sent.erase(sent.begin());
    }
    sent.push_back(element);
  }
  while (const auto received = channel.try_receive()) {
    REQUIRE(*received == sent.front());
    sent.erase(sent.begin());
  }
  CHECK(sent.empty());
  CHECK(channel.try_send(largest));
  CHECK(channel.receive() == largest);
  CHECK_THROWS_CONTAINS(channel.send(std::string(5000, 'x')), UsageError,
                        "does not fit into a Channel with room for 4088");
}

TEST_CASE("a trivially copyable element always finds room for as many as the capacity") {
  struct Sample {
    double x, y;
    char tag;
  };
  Pool pool;
  const auto channel = pool.registry.make_channel<Sample>(5000);
  for (int i = 0; i < 5000; ++i) REQUIRE(channel.try_send({1.0 * i, 2, 'a'}));
  CHECK_FALSE(channel.try_send({}));
  CHECK(channel.receive()->x == 0);
}

TEST_CASE("many senders and receivers in many processes lose and double nothing") {
  Pool pool;
  const auto channel = pool.registry.make_channel<long>(16);
  const Message message = pack(pool.id, channel);
  constexpr long each = 4000;
  struct Shared {
    std::atomic<long> sum, count;
  };
  Common<Shared> common;
  std::vector<Worker> workers;
  for (long sender = 0; sender < 3; ++sender) {
    workers.emplace_back(pool, [&, sender] {
      const auto mine = unpack<Channel<long>>(pool.id, message);
      for (long i = 0; i < each; ++i) mine.send(sender * each + i);
    });
  }
  std::vector<Worker> receivers;
  for (int i = 0; i < 2; ++i) {
    receivers.emplace_back(pool, [&] {
      const auto mine = unpack<Channel<long>>(pool.id, message);
      while (const auto value = mine.receive()) {
        common->sum += *value;
        ++common->count;
      }
    });
  }
  for (auto& worker : workers) CHECK(worker.end() == 0);
  channel.close();
  for (auto& receiver : receivers) CHECK(receiver.end() == 0);
  CHECK(common->count == 3 * each);
  CHECK(common->sum == (3 * each) * (3 * each - 1) / 2);
}

TEST_CASE("nothing sent is lost or doubled whichever sender or receiver is killed whenever") {
  // Every process notes a number before it sends it and after, and when it has received it; so a number is
  // missing or double only as far as a kill explains: sent or not where its sender died in `send`, gone where
  // its receiver died in `receive`.
  constexpr std::size_t most = 2'000'000;
  struct Shared {
    std::atomic<std::uint32_t> next;
    std::array<std::atomic<std::uint8_t>, most> begun, sent, received;
  };
  Common<Shared> common;
  Pool pool;
  const auto channel = pool.registry.make_channel<std::uint32_t>(8);
  const Message message = pack(pool.id, channel);
  const auto sender = [&] {
    return Worker{pool, [&] {
                    const auto mine = unpack<Channel<std::uint32_t>>(pool.id, message);
                    for (;;) {
                      const std::uint32_t number = common->next++;
                      if (number >= most) ::_exit(0);
                      common->begun[number] = 1;
                      mine.send(number);
                      common->sent[number] = 1;
                    }
                  }};
  };
  const auto receiver = [&] {
    return Worker{pool, [&] {
                    const auto mine = unpack<Channel<std::uint32_t>>(pool.id, message);
                    while (const auto number = mine.receive()) ++common->received[*number];
                  }};
  };
  std::vector<Worker> senders;
  std::vector<Worker> receivers;
  for (int i = 0; i < 2; ++i) senders.push_back(sender());
  for (int i = 0; i < 2; ++i) receivers.push_back(receiver());
  std::mt19937 random{777};
  const int kills = long_run() ? 2000 : 150;
  int killed_senders = 0;
  int killed_receivers = 0;
  for (int kill = 0; kill < kills; ++kill) {
    const std::uint32_t seen = common->next;
    const auto wanted = static_cast<std::uint32_t>(random() % 60);
    until([&] { return common->next > seen + wanted || common->next >= most; });
    if (random() % 2 == 0) {
      senders.erase(senders.begin());
      senders.push_back(sender());
      ++killed_senders;
    } else {
      receivers.erase(receivers.begin());
      receivers.push_back(receiver());
      ++killed_receivers;
    }
  }
  killed_senders += static_cast<int>(senders.size());
  senders.clear();
  channel.close();
  for (auto& one : receivers) CHECK(one.end() == 0);  // they receive what is left, and end
  int lost = 0;
  int unfinished = 0;
  int doubled = 0;
  for (std::uint32_t number = 0; number < std::min<std::uint32_t>(common->next, most); ++number) {
    if (common->received[number] > 1) ++doubled;
    if (common->sent[number] != 0 && common->received[number] == 0) ++lost;
    if (common->sent[number] == 0 && common->begun[number] != 0) ++unfinished;
    if (common->begun[number] == 0) CHECK(common->received[number] == 0);
  }
  MESSAGE("elements: ", common->next.load(), ", kills: ", kills, ", died with their receiver: ", lost,
          ", died in send: ", unfinished);
  CHECK(doubled == 0);
  CHECK(lost <= killed_receivers);
  CHECK(unfinished <= killed_senders);
}

TEST_CASE("a sender that stops at any instruction has sent its element or has not, and stops nobody") {
  if (long_run()) const Deadline deadline{300s};
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const auto channel = pool.registry.make_channel<std::string>(2);
  const Message message = pack(pool.id, channel);
  bool sent = false;
  bool unsent = false;
  for (long steps = 0;; steps += long_run() ? 1 : 17) {
    std::unique_ptr<Sleeper> sleeper;
    std::optional<std::string> first;
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Channel<std::string>>(pool.id, message); },
        [](const Channel<std::string>& mine) { mine.send("whole"); },
        [&] { sleeper = std::make_unique<Sleeper>([&] { first = channel.receive(); }); });
    channel.send("after");
    sleeper->join();
    REQUIRE(first);
    if (*first == "whole") {
      sent = true;
      first = channel.try_receive();
    } else {
      unsent = true;
    }
    REQUIRE(first == "after");
    REQUIRE(channel.empty());
    if (!within) break;
  }
  CHECK(sent);
  CHECK(unsent);
}

TEST_CASE("a receiver that stops at any instruction has received its element or has not, and stops nobody") {
  if (long_run()) const Deadline deadline{300s};
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const auto channel = pool.registry.make_channel<std::string>(2);
  const Message message = pack(pool.id, channel);
  bool received = false;
  bool left = false;
  for (long steps = 0;; steps += long_run() ? 1 : 17) {
    channel.send("first");
    channel.send("second");
    std::unique_ptr<Sleeper> sleeper;
    bool third_sent = false;
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Channel<std::string>>(pool.id, message); },
        [](const Channel<std::string>& mine) { static_cast<void>(mine.receive()); },
        [&] {
          sleeper = std::make_unique<Sleeper>([&] {
            channel.send("third");
            third_sent = true;
          });
        });
    auto next = channel.receive();
    REQUIRE(next);
    if (*next == "first") {
      left = true;
      next = channel.receive();
    } else {
      received = true;
    }
    REQUIRE(next == "second");
    sleeper->join();
    REQUIRE(third_sent);
    REQUIRE(channel.receive() == "third");
    REQUIRE(channel.empty());
    if (!within) break;
  }
  CHECK(received);
  CHECK(left);
}

TEST_CASE("handles do not travel through a Channel, not even within a struct") {
  struct Holder {
    Counter counter;
    int number;
  };
  Pool pool;
  const auto channel = pool.registry.make_channel<Holder>(2);
  CHECK_THROWS_CONTAINS(channel.send({pool.registry.make_counter(1), 2}), UsageError,
                        "a Counter was sent through a Channel");
  const auto arrays = pool.registry.make_channel<SharedArray<int>>(2);
  CHECK_THROWS_CONTAINS(arrays.send(pool.registry.make_array<int>(2)), UsageError,
                        "a SharedArray was sent through a Channel");
  CHECK(channel.empty());
}
