// The engine's own limit of a round trip: a message into its queue, taken, another into the results, and read
// there.
//   --count N
#include <condition_variable>
#include <mutex>

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
  std::vector<EngineEvent> events_;
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 2000);
  bench::ClusterMachines machines;
  kindred::EngineOptions where;
  where.servers = {machines.url()};
  Events head_events, node_events;
  const auto head = connect_to_nats(where, "bench", "head", 10s,
                                    [&](EngineEvent event) { head_events.put(std::move(event)); });
  const auto node = connect_to_nats(where, "bench", "node", 10s,
                                    [&](EngineEvent event) { node_events.put(std::move(event)); });
  const Queue queue{1, "0123456789abcdef", 'm'};
  head->ensure(1, Stream{StreamKind::tasks, 1}, {});
  head->ensure(2, Stream{StreamKind::results, 1}, {});
  head->ensure(3, queue, 10s);
  for (int i = 0; i < 3; ++i) (void)head_events.next<Answer>();
  head->follow(4, {{StreamKind::results, 1}, "7"}, 1);
  std::this_thread::sleep_for(100ms);
  const Bytes body(200);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + count / 10 + 1; ++done) {
    node->take(5, queue, 1, 2s);
    const double begin = bench::now_ns();
    head->put(0, {{StreamKind::tasks, 1}, queue.build + ".m.7"}, {}, body, {});
    const auto delivery = node_events.next<Delivery>();
    node->put(0, {{StreamKind::results, 1}, "7." + std::to_string(done)}, {}, delivery.bytes, {});
    node->settle(0, delivery.handle, Settle::done);
    (void)head_events.next<StreamEntry>();
    if (done > count / 10) samples.add(bench::now_ns() - begin);
    (void)node_events.next<Answer>();  // the end of the pull
  }
  samples.report("us", 1e-3);
}
