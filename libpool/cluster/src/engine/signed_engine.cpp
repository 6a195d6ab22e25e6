#include "engine/signed_engine.hpp"

#include <chrono>
#include <utility>

namespace kindred::internal::cluster {
namespace {

constexpr std::int64_t told_every = 10'000'000'000;

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

SignedEngine::SignedEngine(Signer signer, std::string cluster, Receive receive, Refused refused,
                           const Make& make)
    : door_{std::make_shared<Door>(std::move(signer), std::move(cluster), std::move(receive),
                                   std::move(refused))} {
  below_ = make([door = door_](EngineEvent event) { door->pass(std::move(event)); });
}

void SignedEngine::Door::pass(EngineEvent event) {
  if (auto* const packet = std::get_if<Told>(&event)) {
    if (!check(packet->bytes, "a message between heads and nodes")) return;
  } else if (auto* const delivery = std::get_if<Delivery>(&event)) {
    if (!check(delivery->bytes, "a task in the queue")) return;
  } else if (auto* const entry = std::get_if<StreamEntry>(&event)) {
    if (!check(entry->bytes, "a result or log record")) return;
  } else if (auto* const answer = std::get_if<Answer>(&event);
             answer != nullptr && answer->how == Answer::How::done && !answer->bytes.empty()) {
    if (!check(answer->bytes, "a stored value")) {
      *answer = {.ticket = answer->ticket,
                 .how = Answer::How::refused,
                 .bytes = {},
                 .text = "what is stored there is not signed with the key of this cluster"};
    }
  }
  receive(std::move(event));
}

bool SignedEngine::Door::check(Bytes& bytes, const char* what) {
  if (signer.is_signed(bytes)) {
    Signer::strip(bytes);
    return true;
  }
  const std::uint64_t dropped = ++count;
  const std::int64_t now = now_ns();
  std::int64_t before = told.load();
  if (refused && (before == 0 || now - before > told_every) && told.compare_exchange_strong(before, now))
    refused("cluster " + cluster + ": " + what +
            " is not signed with the key of this cluster (sign_key) and was dropped, the " +
            std::to_string(dropped) +
            ". of this process. A head or a node has another key or none, or the messages are forged.");
  return false;
}

EngineState SignedEngine::connection() const {
  EngineState state = below_->connection();
  state.refused_messages = door_->count.load();
  return state;
}

}  // namespace kindred::internal::cluster
