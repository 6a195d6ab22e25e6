#include "engine/outbox.hpp"

#include <algorithm>

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_on_the_way = 2048;
constexpr Time patience = 1500ms;
constexpr Time after_refusal = 250ms;

}  // namespace

void Outbox::restart() {
  for (auto sent = sent_.rbegin(); sent != sent_.rend(); ++sent)
    waiting_.push_front(std::move(sent->second.item));
  sent_.clear();
}

void Outbox::put(Time now, Item item, Epoch epoch, Engine& engine, Tickets& tickets) {
  const Ticket ticket = tickets.next();
  engine.put(ticket, {{item.kind, epoch}, item.path}, std::to_string(epoch) + "." + item.id, item.bytes,
             {.what = item.unless_there ? Expect::What::absent : Expect::What::anything});
  sent_.emplace(ticket, Sent{std::move(item), now + patience});
}

void Outbox::tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets) {
  std::vector<Item> again;
  for (auto each = sent_.begin(); each != sent_.end();) {
    if (each->second.again > now) {
      if (each->second.again > now + after_refusal) break;  // later tickets were sent later
      ++each;
      continue;
    }
    again.push_back(std::move(each->second.item));
    each = sent_.erase(each);
  }
  for (Item& item : again) put(now, std::move(item), epoch, engine, tickets);
  while (!waiting_.empty() && sent_.size() < max_on_the_way) {
    Item item = std::move(waiting_.front());
    waiting_.pop_front();
    put(now, std::move(item), epoch, engine, tickets);
  }
}

bool Outbox::on_answer(Time now, const Answer& answer, std::vector<Item>& stored) {
  const auto found = sent_.find(answer.ticket);
  if (found == sent_.end()) return false;
  const bool is_there = found->second.item.unless_there && answer.how == Answer::How::conflict;
  if (answer.how != Answer::How::done && !is_there) {
    found->second.again = now + after_refusal;
    return true;
  }
  bytes_ -= found->second.item.bytes.size();
  stored.push_back(std::move(found->second.item));
  sent_.erase(found);
  return true;
}

void Outbox::drop_below(StreamKind kind, const std::string& path) {
  const auto unwanted = [&](const Item& item) {
    if (item.kind != kind || !item.path.starts_with(path + ".")) return false;
    bytes_ -= item.bytes.size();
    return true;
  };
  std::erase_if(waiting_, unwanted);
  std::erase_if(sent_, [&](const auto& each) { return unwanted(each.second.item); });
}

Time Outbox::next_due(Time now) const noexcept {
  if (!waiting_.empty() && sent_.size() < max_on_the_way) return now;
  return sent_.empty() ? Time::max() : std::max(now + 1ms, sent_.begin()->second.again);
}

}  // namespace kindred::internal::cluster
