// The engine's own limit of a round trip: a message into its queue, taken, another into the results, and read
// there.
//   --count N
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/nats/nats_engine.hpp"
#include "support/bench.hpp"
#include "support/cluster_machines.hpp"

namespace {

using namespace kindred::internal::cluster;
using namespace std::chrono_literals;

class Events {
 public:
  void put(EngineEvent event) {
    {
      const std::scoped_lock lock{mutex_};
      events_.push_back(std::move(event));
    }
    bell_.notify_one();
  }
  template <class T>
  T next() {
    std::unique_lock lock{mutex_};
    for (;;) {
      for (auto event = events_.begin(); event != events_.end(); ++event) {
        if (auto* const found = std::get_if<T>(&*event)) {
          T result = std::move(*found);
          events_.erase(event);
          return result;
        }
      }
      if (bell_.wait_for(lock, 10s) == std::cv_status::timeout) bench::fail("the engine does not answer");
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable bell_;
  std::deque<EngineEvent> events_;
};

struct Engines {
  Events head_events, node_events;
  std::unique_ptr<Engine> head, node;
  const Queue queue{1, "0123456789abcdef", 'm'};

  explicit Engines(const std::string& url) {
    kindred::EngineOptions where;
    where.servers = {url};
    head = connect_to_nats(where, "bench", "head", 10s,
                           [this](EngineEvent event) { head_events.put(std::move(event)); });
    node = connect_to_nats(where, "bench", "node", 10s,
                           [this](EngineEvent event) { node_events.put(std::move(event)); });
    head->ensure(1, Stream{StreamKind::tasks, 1}, {});
    head->ensure(2, Stream{StreamKind::results, 1}, {});
    head->ensure(3, Stream{StreamKind::log, 1}, {});
    head->ensure(4, queue, 10s);
    for (int i = 0; i < 4; ++i) (void)head_events.next<Answer>();
    head->follow(5, {{StreamKind::results, 1}, "7"}, 1);
    head->follow(6, {{StreamKind::log, 1}, "7"}, 1);
    std::this_thread::sleep_for(100ms);
  }
  void put_task(const Bytes& body) {
    head->put(0, {{StreamKind::tasks, 1}, queue.build + ".m.7"}, {}, body, {});
  }
  void put_result(std::size_t number, const Delivery& delivery) {
    node->put(0, {{StreamKind::results, 1}, "7." + std::to_string(number)}, {}, delivery.bytes, {});
    node->settle(0, delivery.handle, Settle::done);
  }
};

void round_trip(Engines& engines, std::size_t count) {
  const Bytes body(200);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + count / 10 + 1; ++done) {
    engines.node->take(7, engines.queue, 1, 2s);
    const double begin = bench::now_ns();
    engines.put_task(body);
    engines.put_result(done, engines.node_events.next<Delivery>());
    (void)engines.head_events.next<StreamEntry>();
    if (done > count / 10) samples.add(bench::now_ns() - begin);
    (void)engines.node_events.next<Answer>();  // the end of the pull
  }
  samples.report("us", 1e-3);
}

void messages(Engines& engines, std::size_t count) {
  const Bytes body(200);
  const double begin = bench::now_ns();
  std::thread node{[&] {
    for (std::size_t done = 0; done < count;) {
      const std::size_t room = std::min<std::size_t>(512, count - done);
      engines.node->take(7, engines.queue, room, 2s);
      for (std::size_t i = 0; i < room; ++i) engines.put_result(done++, engines.node_events.next<Delivery>());
      (void)engines.node_events.next<Answer>();
    }
  }};
  for (std::size_t i = 0; i < count; ++i) engines.put_task(body);
  for (std::size_t i = 0; i < count; ++i) (void)engines.head_events.next<StreamEntry>();
  const double took = bench::now_ns() - begin;
  node.join();
  bench::report(static_cast<double>(count) / took * 1e9, "tasks/s");
}

void log(Engines& engines, std::size_t count) {
  constexpr std::size_t records = 256, record_bytes = 100;
  const Bytes body(records * record_bytes);
  const double begin = bench::now_ns();
  for (std::size_t i = 0; i < count / records; ++i)
    engines.node->put(0, {{StreamKind::log, 1}, "7.1"}, {}, body, {});
  for (std::size_t i = 0; i < count / records; ++i) (void)engines.head_events.next<StreamEntry>();
  bench::report(static_cast<double>(count / records * records) / (bench::now_ns() - begin) * 1e9,
                "records/s");
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const std::string row = options.text("row", "round_trip");
  const std::size_t count = options.number("count", 2000);
  bench::ClusterMachines machines;
  Engines engines{machines.url()};
  if (row == "round_trip")
    round_trip(engines, count);
  else if (row == "messages")
    messages(engines, count);
  else if (row == "log")
    log(engines, count);
  else
    bench::fail("there is no row of this name");
}
