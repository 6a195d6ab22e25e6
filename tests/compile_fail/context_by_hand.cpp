// expect: private
// A context is an executor's alone: nobody else can cut the key.
#include "kindred/internal/context.hpp"

int main() {
#ifndef KINDRED_COMPILES
  kindred::internal::Context context{kindred::internal::Passkey<kindred::internal::PoolCore>{},
                                     kindred::StartMethod::spawn};
#endif
}
