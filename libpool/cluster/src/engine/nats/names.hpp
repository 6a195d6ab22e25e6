#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/engine.hpp"

// What the streams, subjects and keys of a cluster are called on a NATS server (n: the cluster, e: the
// epoch).
//
//     tasks    stream KN_n_e_TASKS     kn.n.e.task.<build>.<class>.<job>    consumers <build>_<class>
//     results  stream KN_n_e_RESULTS   kn.n.e.result.<job>.<task>
//     log      stream KN_n_e_LOG       kn.n.e.log.<job>.<life>
//     blobs    stream KN_n_e_BLOB      kn.n.e.blob.<job>.<blob>.<part>
//     keys     buckets KN_n_nodes, KN_n_jobs, KN_n_epochs: streams KV_<bucket>, subjects $KV.<bucket>.<key>
//     told     kn.n.head, kn.n.beat, kn.n.job.<job>, kn.n.node.<name>
namespace kindred::internal::cluster {

class NatsNames {
 public:
  explicit NatsNames(std::string cluster) : cluster_{std::move(cluster)} {}

  [[nodiscard]] std::string stream(const Stream& stream) const;
  [[nodiscard]] std::string subject(const Place& place) const;
  /// With a wildcard for all that is below.
  [[nodiscard]] std::string below(const Place& place) const;
  [[nodiscard]] std::string subject(const Address& address) const;
  [[nodiscard]] static std::string consumer(const Queue& queue);
  [[nodiscard]] std::string filter(const Queue& queue) const;

 private:
  std::string cluster_;
};

/// Reads one member out of a JetStream server's JSON answer: the first number, or text, with this name, at
/// any depth; 0 or empty where there is none.
[[nodiscard]] std::uint64_t json_number(std::string_view json, std::string_view name);
[[nodiscard]] std::string json_text(std::string_view json, std::string_view name);
/// Errors: `DecodeError`.
[[nodiscard]] Bytes from_base64(std::string_view text);

/// What a delivery's reply subject tells of it.
struct AckSubject {
  std::string_view stream;
  std::uint64_t delivered = 0;
  std::uint64_t stream_sequence = 0;
  std::uint64_t consumer_sequence = 0;
};
/// Both forms: $JS.ACK.<stream>.<consumer>.<5 numbers>, and with <domain>.<account> before the stream. False:
/// it is none.
[[nodiscard]] bool parse_ack_subject(std::string_view subject, AckSubject& out);
/// The epoch in a stream's name; 0: none.
[[nodiscard]] Epoch epoch_of(std::string_view stream);

}  // namespace kindred::internal::cluster
