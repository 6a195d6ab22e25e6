#include "engine/fake/fake_engine.hpp"

#include <algorithm>
#include <utility>

namespace kindred::internal::cluster {
namespace {

const std::string at_engine;  ///< the engine's own machine has no name

bool is_below(const std::string& path, const std::string& below) {
  return below.empty() ||
         (path.starts_with(below) && path.size() > below.size() && path[below.size()] == '.');
}

std::string handle_of(const Queue& queue, std::uint64_t sequence) {
  return std::to_string(queue.epoch) + " " + queue.build + " " + queue.priority + " " +
         std::to_string(sequence);
}

Answer missing() {
  Answer answer;
  answer.how = Answer::How::missing;
  return answer;
}

}  // namespace

// --- what travels

void FakeBus::send(const std::string& from, const std::string& to, const std::function<void()>& arrives) {
  const Fate decided = fate ? fate(sent_) : Fate{};
  ++sent_;
  if (decided.lost || down || cut.contains(from)) return;
  for (unsigned i = 0; i < decided.copies; ++i) {
    on_the_way_.emplace(now + delay + decided.late * (i + 1), [this, to, arrives] {
      if (!down && !cut.contains(to)) arrives();
    });
  }
}

Time FakeBus::next() const noexcept {
  Time next = on_the_way_.empty() ? Time::max() : on_the_way_.begin()->first;
  for (const auto& [queue, stored] : queues_) {
    if (down || stored.pulls.empty()) continue;
    for (const auto& [sequence, out] : stored.out) next = std::min(next, std::max(out.due, now + delay));
    for (const Waiting& pull : stored.pulls) next = std::min(next, pull.until);
  }
  return next;
}

void FakeBus::deliver() {
  while (!on_the_way_.empty() && on_the_way_.begin()->first <= now) {
    const auto arrives = std::move(on_the_way_.begin()->second);
    on_the_way_.erase(on_the_way_.begin());
    arrives();
  }
  if (down) return;
  for (auto& [queue, stored] : queues_) give_out(queue, stored);
}

void FakeBus::forget(Port& port) {
  for (auto& [address, ports] : listeners_) ports.erase(&port);
  for (auto& [queue, stored] : queues_)
    std::erase_if(stored.pulls, [&port](const Waiting& pull) { return pull.port == &port; });
  ports_.erase(&port);
}

void FakeBus::wipe() {
  streams_.clear();
  for (auto& [queue, stored] : queues_) stored.pulls.clear();
  queues_.clear();
}

std::size_t FakeBus::stored(StreamKind kind) const {
  std::size_t count = 0;
  for (const auto& [stream, stored] : streams_) count += stream.kind == kind ? stored.messages.size() : 0;
  return count;
}

std::size_t FakeBus::streams(StreamKind kind) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(streams_, [kind](const auto& each) { return each.first.kind == kind; }));
}

// --- the verbs

void FakeBus::Port::ask(Ticket ticket, std::function<Answer(FakeBus&)> verb) {
  bus_.send(machine_, at_engine, [this, ticket, verb = std::move(verb), &bus = bus_] {
    Answer answer = verb(bus);
    if (ticket == 0) return;
    answer.ticket = ticket;
    bus.send(at_engine, machine_, [this, answer, &bus] {
      if (bus.ports_.contains(this) && receive) receive(answer);
    });
  });
}

void FakeBus::Port::ensure(Ticket ticket, const Stream& stream, const StreamLimits& limits) {
  ask(ticket, [stream, limits](FakeBus& bus) {
    auto [found, made] = bus.streams_.try_emplace(stream);
    if (made) {
      found->second.created = ++bus.created_;
      found->second.max_age = limits.max_age;
      found->second.window = limits.duplicates_window;
    }
    Answer answer;
    answer.number = found->second.last;
    answer.text = std::to_string(found->second.created);
    return answer;
  });
}

void FakeBus::Port::ensure(Ticket ticket, const Queue& queue, Time lease) {
  ask(ticket, [queue, lease](FakeBus& bus) {
    if (!bus.streams_.contains({StreamKind::tasks, queue.epoch})) return missing();
    bus.queues_.try_emplace(queue).first->second.lease = lease;
    return Answer{};
  });
}

void FakeBus::Port::state(Ticket ticket, const Stream& stream) {
  ask(ticket, [stream](FakeBus& bus) {
    const auto found = bus.streams_.find(stream);
    if (found == bus.streams_.end()) return missing();
    Answer answer;
    answer.number = found->second.last;
    answer.text = std::to_string(found->second.created);
    return answer;
  });
}

void FakeBus::Port::remove(Ticket ticket, const Stream& stream) {
  ask(ticket, [stream](FakeBus& bus) {
    if (bus.streams_.erase(stream) == 0) return missing();
    if (stream.kind == StreamKind::tasks)
      std::erase_if(bus.queues_, [&](const auto& each) { return each.first.epoch == stream.epoch; });
    return Answer{};
  });
}

void FakeBus::Port::put(Ticket ticket, const Place& place, const std::string& id,
                        std::span<const std::byte> bytes, Expect expect) {
  ask(ticket, [place, id, kept = Bytes(bytes.begin(), bytes.end()), expect](FakeBus& bus) {
    return bus.store(place, id, kept, expect);
  });
}

Answer FakeBus::store(const Place& place, const std::string& id, const Bytes& bytes, Expect expect) {
  const auto found = streams_.find(place.stream);
  if (found == streams_.end()) return missing();
  StoredStream& stream = found->second;
  Answer answer;
  if (const auto before = stream.ids.find(id);
      !id.empty() && before != stream.ids.end() && now - before->second.second < stream.window) {
    answer.number = before->second.first;
    answer.duplicate = true;
    return answer;
  }
  if (holds_keys(place.stream.kind) || expect.what != Expect::What::anything) {
    const auto last = std::find_if(stream.messages.rbegin(), stream.messages.rend(),
                                   [&](const auto& each) { return each.second.path == place.path; });
    const std::uint64_t revision = last == stream.messages.rend() ? 0 : last->first;
    if ((expect.what == Expect::What::absent && revision != 0) ||
        (expect.what == Expect::What::revision && revision != expect.revision)) {
      answer.how = Answer::How::conflict;
      return answer;
    }
    if (revision != 0 && holds_keys(place.stream.kind)) stream.messages.erase(revision);
  }
  answer.number = ++stream.last;
  stream.messages.emplace(stream.last, StoredMessage{.path = place.path, .bytes = bytes});
  if (!id.empty()) stream.ids[id] = {stream.last, now};
  feed(place.stream);
  return answer;
}

void FakeBus::Port::find(Ticket ticket, const Place& place) {
  ask(ticket, [place](FakeBus& bus) {
    const auto stream = bus.streams_.find(place.stream);
    if (stream == bus.streams_.end()) return missing();
    const auto& messages = stream->second.messages;
    const auto found = std::find_if(messages.rbegin(), messages.rend(),
                                    [&](const auto& each) { return each.second.path == place.path; });
    if (found == messages.rend()) return missing();
    Answer answer;
    answer.number = found->first;
    answer.bytes = found->second.bytes;
    return answer;
  });
}

void FakeBus::Port::find(Ticket ticket, const Stream& stream, std::uint64_t sequence) {
  ask(ticket, [stream, sequence](FakeBus& bus) {
    const auto found = bus.streams_.find(stream);
    if (found == bus.streams_.end() || !found->second.messages.contains(sequence)) return missing();
    Answer answer;
    answer.number = sequence;
    answer.bytes = found->second.messages.at(sequence).bytes;
    return answer;
  });
}

void FakeBus::Port::erase(Ticket ticket, const Stream& stream, std::uint64_t sequence) {
  ask(ticket, [stream, sequence](FakeBus& bus) {
    const auto found = bus.streams_.find(stream);
    if (found == bus.streams_.end() || found->second.messages.erase(sequence) == 0) return missing();
    for (auto& [queue, stored] : bus.queues_) {
      if (queue.epoch == stream.epoch) stored.out.erase(sequence);
    }
    return Answer{};
  });
}

void FakeBus::Port::erase_at(Ticket ticket, const Place& place, std::uint64_t up_to) {
  ask(ticket, [place, up_to](FakeBus& bus) {
    const auto found = bus.streams_.find(place.stream);
    if (found == bus.streams_.end()) return missing();
    std::erase_if(found->second.messages, [&](const auto& each) {
      return each.second.path == place.path && (up_to == 0 || each.first <= up_to);
    });
    for (auto& [queue, stored] : bus.queues_) {
      if (place.stream != Stream{StreamKind::tasks, queue.epoch}) continue;
      std::erase_if(stored.out, [&](const auto& out) { return !found->second.messages.contains(out.first); });
    }
    return Answer{};
  });
}

void FakeBus::Port::purge(Ticket ticket, const Place& below, std::uint64_t up_to) {
  ask(ticket, [below, up_to](FakeBus& bus) {
    const auto found = bus.streams_.find(below.stream);
    if (found == bus.streams_.end()) return missing();
    std::erase_if(found->second.messages, [&](const auto& each) {
      return (is_below(each.second.path, below.path) ||
              (holds_keys(below.stream.kind) && each.second.path == below.path)) &&
             (up_to == 0 || each.first <= up_to);
    });
    for (auto& [queue, stored] : bus.queues_) {
      if (below.stream != Stream{StreamKind::tasks, queue.epoch}) continue;
      std::erase_if(stored.out, [&](const auto& out) { return !found->second.messages.contains(out.first); });
    }
    return Answer{};
  });
}

// --- the queue

void FakeBus::Port::take(Ticket ticket, const Queue& queue, std::size_t room, Time wait) {
  bus_.send(machine_, at_engine, [this, ticket, queue, room, wait, &bus = bus_] {
    const auto found = bus.queues_.find(queue);
    if (found == bus.queues_.end()) {
      Answer answer = missing();
      answer.ticket = ticket;
      bus.send(at_engine, machine_, [this, answer, &bus] {
        if (bus.ports_.contains(this) && receive) receive(answer);
      });
      return;
    }
    found->second.pulls.push_back({this, ticket, room, bus.now + wait});
    bus.give_out(queue, found->second);
  });
}

void FakeBus::give_out(const Queue& queue, StoredQueue& stored) {
  const auto stream = streams_.find({StreamKind::tasks, queue.epoch});
  const std::string below = queue.build + "." + queue.priority;
  if (stream != streams_.end()) {
    for (const auto& [sequence, message] : stream->second.messages) {
      if (stored.pulls.empty()) break;
      if (message.stuck || !is_below(message.path, below)) continue;
      Out& out = stored.out[sequence];
      if (out.count != 0 && out.due > now) continue;
      Waiting& pull = stored.pulls.front();
      ++out.count;
      out.due = now + stored.lease;
      const Delivery delivery{queue.epoch, sequence, out.count, handle_of(queue, sequence), message.bytes};
      send(at_engine, pull.port->machine_, [this, port = pull.port, delivery] {
        if (ports_.contains(port) && port->receive) port->receive(delivery);
      });
      if (--pull.room == 0) pull.until = now;
      if (pull.room != 0) continue;
      Answer answer;
      answer.ticket = pull.ticket;
      send(at_engine, pull.port->machine_, [this, port = pull.port, answer] {
        if (ports_.contains(port) && port->receive) port->receive(answer);
      });
      stored.pulls.erase(stored.pulls.begin());
    }
  }
  for (auto pull = stored.pulls.begin(); pull != stored.pulls.end();) {
    if (pull->until > now) {
      ++pull;
      continue;
    }
    Answer answer;
    answer.ticket = pull->ticket;
    send(at_engine, pull->port->machine_, [this, port = pull->port, answer] {
      if (ports_.contains(port) && port->receive) port->receive(answer);
    });
    pull = stored.pulls.erase(pull);
  }
}

FakeBus::StoredQueue* FakeBus::queue_of(const std::string& handle, std::uint64_t& sequence) {
  for (auto& [queue, stored] : queues_) {
    const std::string beginning = handle_of(queue, 0);
    const std::string_view words{beginning.data(), beginning.size() - 1};
    if (!handle.starts_with(words)) continue;
    sequence = std::stoull(handle.substr(words.size()));
    return &stored;
  }
  return nullptr;
}

void FakeBus::Port::extend(const std::string& handle) {
  ask(0, [handle](FakeBus& bus) {
    std::uint64_t sequence = 0;
    if (StoredQueue* const queue = bus.queue_of(handle, sequence); queue != nullptr) {
      if (const auto out = queue->out.find(sequence); out != queue->out.end())
        out->second.due = bus.now + queue->lease;
    }
    return Answer{};
  });
}

void FakeBus::Port::settle(Ticket ticket, const std::string& handle, Settle how) {
  ask(ticket, [handle, how](FakeBus& bus) {
    std::uint64_t sequence = 0;
    StoredQueue* const queue = bus.queue_of(handle, sequence);
    if (queue == nullptr) return missing();
    // As the real one: the number alone decides, also of a delivery that another life of the stream made.
    if (how != Settle::done) {
      const Time delayed = how == Settle::later ? std::chrono::seconds{1} : Time{0};
      if (const auto out = queue->out.find(sequence); out != queue->out.end())
        out->second.due = bus.now + delayed;
      return Answer{};
    }
    queue->out.erase(sequence);
    const Epoch epoch = std::stoull(handle);
    const auto stream = bus.streams_.find({StreamKind::tasks, epoch});
    if (stream == bus.streams_.end()) return Answer{};
    const auto message = stream->second.messages.find(sequence);
    if (message == stream->second.messages.end()) return Answer{};
    if (bus.keeps_settled)
      message->second.stuck = true;
    else
      stream->second.messages.erase(message);
    return Answer{};
  });
}

// --- feeds, and what is told

void FakeBus::Port::follow(Ticket ticket, const Place& below, std::uint64_t from) {
  feeds_[ticket] = {below, std::max<std::uint64_t>(1, from)};
  bus_.feed(below.stream);
}

void FakeBus::Port::tick() {
  std::set<Stream> streams;
  for (const auto& [ticket, feed] : feeds_) streams.insert(feed.below.stream);
  for (const Stream& stream : streams) bus_.feed(stream);
}

// A feed loses nothing, however often what it brings is lost on its way: so its packets have no fate.
void FakeBus::feed(const Stream& stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || down) return;
  for (Port* const port : ports_) {
    if (cut.contains(port->machine_)) continue;
    for (auto& [ticket, feed] : port->feeds_) {
      if (feed.below.stream != stream) continue;
      for (auto each = found->second.messages.lower_bound(feed.next); each != found->second.messages.end();
           ++each) {
        feed.next = each->first + 1;
        if (!is_below(each->second.path, feed.below.path)) continue;
        const StreamEntry entry{ticket, each->first, each->second.bytes};
        on_the_way_.emplace(now + delay, [this, port, entry] {
          if (ports_.contains(port) && port->feeds_.contains(entry.feed) && port->receive)
            port->receive(entry);
        });
      }
    }
  }
}

void FakeBus::Port::tell(const Address& to, std::span<const std::byte> packet) {
  bus_.send(machine_, at_engine, [to, kept = Bytes(packet.begin(), packet.end()), &bus = bus_] {
    const auto found = bus.listeners_.find(to);
    if (found == bus.listeners_.end()) return;
    const std::vector<Port*> ports(found->second.begin(), found->second.end());
    for (Port* const port : ports) {
      if (!bus.cut.contains(port->machine()) && port->receive) port->receive(Told{kept});
    }
  });
}

}  // namespace kindred::internal::cluster
