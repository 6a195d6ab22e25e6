#include "head/publisher.hpp"

#include <algorithm>

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_on_the_way = 8192;
constexpr std::size_t max_uploads = 4;
constexpr Time patience = 1500ms;
constexpr Time after_refusal = 250ms;  ///< the queue is full, or its stream is being made

}  // namespace

void Publisher::restart() {
  queue_.clear();
  sent_.clear();
  uploads_.clear();
  blobs_.clear();
}

void Publisher::publish(Time now, Epoch epoch, std::uint64_t task, const BlobRef& blob, bool again) {
  TaskSource::Publication publication;
  if (!source_.publication(task, publication)) return;
  const Ticket ticket = tickets_.next();
  sent_.emplace(ticket, Sent{task, now + patience});
  ++(again ? repeated_ : published_);
  const Bytes bytes = source_.message(task, blob);
  engine_.put(ticket, {{StreamKind::tasks, epoch}, build_ + "." + publication.priority + "." + job_},
              std::to_string(epoch) + "." + publication.id, bytes, {});
}

void Publisher::tick(Time now, Epoch epoch) {
  std::vector<std::uint64_t> again;
  // Tickets are in the order of time, but for those that were refused.
  for (auto each = sent_.begin(); each != sent_.end();) {
    if (each->second.again > now) {
      if (each->second.again > now + after_refusal) break;
      ++each;
      continue;
    }
    again.push_back(each->second.task);
    each = sent_.erase(each);
  }
  for (const auto task : again) {
    const auto blob = blobs_.find(task);
    publish(now, epoch, task, blob == blobs_.end() ? BlobRef{} : blob->second, true);
  }
  while (!queue_.empty() && sent_.size() < max_on_the_way && uploads_.size() < max_uploads) {
    const std::uint64_t task = queue_.front();
    queue_.pop_front();
    TaskSource::Publication publication;
    if (!source_.publication(task, publication)) continue;
    if (publication.large == nullptr) {
      publish(now, epoch, task, {}, false);
    } else {
      uploads_[task] = std::make_unique<BlobUpload>(job_, blob_ref(publication.blob, *publication.large),
                                                    *publication.large, blob_part_bytes(engine_));
    }
  }
  for (auto upload = uploads_.begin(); upload != uploads_.end();) {
    TaskSource::Publication publication;
    const std::uint64_t task = upload->first;
    if (!source_.publication(task, publication)) {
      upload = uploads_.erase(upload);
      continue;
    }
    upload->second->tick(now, epoch, engine_, tickets_);
    if (!upload->second->done()) {
      ++upload;
      continue;
    }
    blobs_[task] = upload->second->ref();
    upload = uploads_.erase(upload);
    publish(now, epoch, task, blobs_[task], false);
  }
}

bool Publisher::on_answer(Time now, const Answer& answer, std::vector<Stored>& stored, bool& no_stream) {
  const auto found = sent_.find(answer.ticket);
  if (found == sent_.end()) {
    return std::ranges::any_of(uploads_, [&](auto& each) { return each.second->on_answer(now, answer); });
  }
  if (answer.how == Answer::How::done) {
    stored.push_back({found->second.task, answer.number});
    blobs_.erase(found->second.task);
    sent_.erase(found);
    return true;
  }
  no_stream = no_stream || answer.how == Answer::How::missing;
  words_ = answer.text;
  found->second.again = now + after_refusal;
  return true;
}

Time Publisher::next_due(Time now) const noexcept {
  if (!queue_.empty() && sent_.size() < max_on_the_way && uploads_.size() < max_uploads) return now;
  Time due = Time::max();
  if (!sent_.empty()) due = std::min(due, std::max(now + 1ms, sent_.begin()->second.again));
  if (!uploads_.empty()) due = std::min(due, now + 100ms);
  return due;
}

}  // namespace kindred::internal::cluster
