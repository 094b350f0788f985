// Package faultstest tries to lose a login. It consists of tests only: real processes
// share a login through real files, at a provider with a chosen rotation policy, while
// a seeded schedule of faults kills and stops the processes, breaks the network, the
// provider, the disk, the store and the OS keyring that has the sealing key. The keyring
// is a real GNOME Keyring where it is installed; elsewhere the key is in a file, and the
// faults of the keyring are left out.
//
// What lasts for minutes, such as a provider that is frozen, is simulated, at every policy.
// A certified provider is stopped for real, paths die in a network of their own, and
// connections fall silent: each login must be good again within 35 seconds.
//
//	go test ./transport/internal/faultstest                          a short schedule
//	STAYAUTH_REQUIRE=all go test ./transport/internal/faultstest     every fault with every policy
//	STAYAUTH_FAULTS=full go test -timeout 30m -v ./transport/internal/faultstest
//	                                                        and for each policy 1 000 kills and
//	                                                        40 stops of 20 seconds
//	STAYAUTH_FAULTS_SEED=7 go test -v ./transport/internal/faultstest   the schedule of a run again
//
// Each run prints a table: what callers asked for, what they did not get although a
// good access token existed, which logins were lost, and how long it took until all was
// well. Whether a token was good is decided by the provider, not by the library.
//
// What the faults are made of is outside of the library: the provider, the stores and
// the network are given to it through its interfaces.
package faultstest
