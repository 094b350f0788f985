// Package model checks the critical section of a refresh exhaustively: every order
// in which two or three processes can take its steps, with crashes, lost answers,
// requests that arrive late, frozen and slow providers, and stores that fail or forget at
// every point.
//
// The model consists of tests only. Its steps are those of transport's source_entry.go,
// source_refresh.go, source_successor.go and source_flight.go, entry/save.go and
// endpoint/wait.go, one for each access to what the processes share: the store, its lock and
// the provider. Nobody else can see what a process does between two of them, so that belongs to
// the step before. A change to those files has to be made here too; the tests that take a rule
// away, and expect a counterexample, show that the model would notice.
package model
