// Package faultstest tries to lose a login. It consists of tests only: real processes share a
// login through real files, at a provider with a chosen rotation policy, while a seeded
// schedule of faults kills and stops the processes, and breaks the network, the provider, the
// disk, the store and the OS keyring that holds the sealing key. The keyring is a real GNOME
// Keyring where it is installed; elsewhere the key is in a file, and the faults of the keyring
// are left out.
//
// Faults that last for minutes, such as a frozen provider, are simulated, with every policy. A
// certified provider is stopped for real, paths die in a network of their own, and connections
// fall silent: each login must be good again within 35 seconds.
//
//	go test ./transport/internal/faultstest                          a short schedule
//	STAYAUTH_REQUIRE=all go test ./transport/internal/faultstest     every fault with every policy
//	STAYAUTH_FAULTS=full go test -timeout 30m -v ./transport/internal/faultstest
//	                                                        and for each policy 1 000 kills and
//	                                                        40 stops of 20 seconds
//	STAYAUTH_FAULTS_CLIENT=bound go test ./transport/internal/faultstest
//	                                                        all logins are bound to a key (DPoP),
//	                                                        or none: secret, key
//	STAYAUTH_FAULTS_SEED=7 go test -v ./transport/internal/faultstest   the schedule of a run again
//
// Each run prints a table: what callers asked for, what they did not get although there was a
// good access token, which logins were lost, and how long it took until all was well. Whether a
// token was good is decided by the provider, not by the library.
//
// The faults are made outside of the library, which gets the provider, the stores and the
// network through its interfaces.
package faultstest
