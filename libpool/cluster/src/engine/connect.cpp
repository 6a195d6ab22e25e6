#include "engine/connect.hpp"

#include <utility>

#include "engine/nats/nats_engine.hpp"
#include "engine/signed_engine.hpp"

namespace kindred::internal::cluster {

std::unique_ptr<Engine> connect_engine(const EngineOptions& options, const std::string& cluster,
                                       const std::string& who, std::chrono::nanoseconds patience,
                                       Engine::Receive receive,
                                       std::function<void(const std::string& what)> refused) {
  if (options.sign_key.empty()) return connect_to_nats(options, cluster, who, patience, std::move(receive));
  return std::make_unique<SignedEngine>(Signer{read_secret(options.sign_key), cluster}, cluster,
                                        std::move(receive), std::move(refused), [&](Engine::Receive pass) {
                                          return connect_to_nats(options, cluster, who, patience,
                                                                 std::move(pass));
                                        });
}

}  // namespace kindred::internal::cluster
