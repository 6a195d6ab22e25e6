#include "node/node_options_codec.hpp"

#include "kindred/error.hpp"
#include "wire/archive.hpp"

namespace kindred::internal {
namespace {

using namespace cluster;

constexpr std::uint32_t version = 4;

/// The members that cross, in their order, for either archive.
struct Crossing {
  NodeOptions options;
  std::vector<std::string> environment;  // "NAME=value"; "NAME" removes it

  void fields(auto& archive) {
    NodeOptions& o = options;
    EngineOptions& e = o.engine;
    std::int64_t workers = o.max_workers.value();
    std::int64_t grace = o.drain_grace.count();
    std::int64_t prefetch = o.prefetch ? std::int64_t{*o.prefetch} : -1;
    std::int32_t nice = o.worker.nice;
    archive(o.cluster, e.servers, e.credentials, e.nkey, e.user, e.password, e.tls.ca, e.tls.cert, e.tls.key,
            e.tls.host, e.insecure, e.sign_key, o.name, workers, o.start_method, o.worker.cwd, nice,
            o.worker.capture_output, o.worker.load_libraries, environment, prefetch, o.accept_jobs,
            o.drain_on_term, grace);
    o.max_workers = workers;
    o.drain_grace = std::chrono::nanoseconds{grace};
    o.worker.nice = nice;
    if (prefetch >= 0) o.prefetch = static_cast<std::uint32_t>(prefetch);
  }
};

}  // namespace

std::string encode_node_options(const NodeOptions& options) {
  Crossing crossing{options, {}};
  for (const auto& [name, value] : options.worker.env)
    crossing.environment.push_back(value ? name + "=" + *value : name);
  Bytes bytes;
  ArchiveWriter{bytes}(version, crossing);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

NodeOptions decode_node_options(const std::string& text) {
  try {
    ArchiveReader reader{std::as_bytes(std::span{text})};
    std::uint32_t made_by = 0;
    Crossing crossing;
    reader(made_by);
    if (made_by != version)
      throw UsageError{
          "kindred-node is of another version than the program. Use the one that was built with it."};
    reader(crossing);
    reader.require_end();
    for (const std::string& each : crossing.environment) {
      const auto equals = each.find('=');
      if (equals == std::string::npos)
        crossing.options.worker.env[each] = std::nullopt;
      else
        crossing.options.worker.env[each.substr(0, equals)] = each.substr(equals + 1);
    }
    return crossing.options;
  } catch (const DecodeError& error) {
    throw UsageError{std::string{"the options of kindred-node cannot be read: "} + error.what()};
  }
}

}  // namespace kindred::internal
