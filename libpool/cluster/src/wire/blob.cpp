#include "wire/blob.hpp"

#include <algorithm>

#include "wire/sha256.hpp"

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_outstanding = 4;
constexpr Time patience = 2s;
constexpr Time after_missing = 100ms;
constexpr unsigned max_missing = 50;

Place place_of(const std::string& job, const BlobRef& ref, std::size_t part, Epoch epoch) {
  return {{StreamKind::blobs, epoch}, job + "." + std::to_string(ref.id) + "." + std::to_string(part)};
}

}  // namespace

std::size_t blob_part_bytes(const Engine& engine) {
  return std::min<std::size_t>(768U << 10U, std::max<std::size_t>(engine.max_message(), 16'384) - 8192);
}

BlobRef blob_ref(std::uint64_t id, const Bytes& bytes) {
  return {.id = id, .size = bytes.size(), .sha256 = sha256(bytes)};
}

void BlobUpload::put(Time now, std::size_t part, Epoch epoch, Engine& engine, Tickets& tickets) {
  const Ticket ticket = tickets.next();
  sent_[ticket] = {part, now};
  const std::size_t at = part * part_bytes_;
  const Place place = place_of(job_, ref_, part, epoch);
  engine.put(ticket, place, std::to_string(epoch) + "." + place.path,
             std::span{*bytes_}.subspan(at, std::min(part_bytes_, bytes_->size() - at)), {});
}

void BlobUpload::tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets) {
  std::vector<std::size_t> again;
  std::erase_if(sent_, [&](const auto& each) {
    if (now - each.second.at < patience) return false;
    again.push_back(each.second.part);
    return true;
  });
  for (const std::size_t part : again) put(now, part, epoch, engine, tickets);
  while (next_ < parts() && sent_.size() < max_outstanding) put(now, next_++, epoch, engine, tickets);
}

bool BlobUpload::on_answer(Time now, const Answer& answer) {
  const auto found = sent_.find(answer.ticket);
  if (found == sent_.end()) return false;
  if (answer.how != Answer::How::done) {
    found->second.at = now - patience + after_missing;  // once more after a moment
    return true;
  }
  ++stored_;
  sent_.erase(found);
  return true;
}

void BlobUpload::restart() {
  sent_.clear();
  next_ = stored_ = 0;
}

void BlobFetch::fail(std::string why) {
  state_ = State::failed;
  why_ = std::move(why);
}

void BlobFetch::tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets) {
  if (state_ != State::fetching || (asked_ != 0 && now - asked_at_ < patience)) return;
  asked_ = tickets.next();
  asked_at_ = now;
  engine.find(asked_, place_of(job_, ref_, next_, epoch));
}

bool BlobFetch::on_answer(Time now, const Answer& answer) {
  if (asked_ == 0 || answer.ticket != asked_) return false;
  if (answer.how != Answer::How::done) {
    if (++missing_ > max_missing) fail("its large bytes are not in the engine's store any more");
    asked_at_ = now - patience + after_missing;
    return true;
  }
  asked_ = 0;
  missing_ = 0;
  ++next_;
  bytes_.insert(bytes_.end(), answer.bytes.begin(), answer.bytes.end());
  if (bytes_.size() < ref_.size && !answer.bytes.empty()) return true;
  if (bytes_.size() == ref_.size && sha256(bytes_) == ref_.sha256)
    state_ = State::complete;
  else
    fail("its large bytes have another checksum than they were sent with");
  return true;
}

}  // namespace kindred::internal::cluster
