package gate_test

import (
	"context"
	"fmt"
	"log"

	"github.com/stayauth/stayauth/tokencache/gate"
)

// A lock that has to be polled: however many goroutines want it, one polls at a time.
func ExampleGates_Enter() {
	var gates gate.Gates // a field of the Store
	poll := func(ctx context.Context, name string) (release func() error, err error) {
		fmt.Println("asking for", name) // a row of a database, again and again until ctx is done
		return func() error { return nil }, nil
	}
	lock := func(ctx context.Context, name string) (unlock func() error, err error) {
		leave, err := gates.Enter(ctx, name)
		if err != nil {
			return nil, err
		}
		release, err := poll(ctx, name)
		if err != nil {
			leave()
			return nil, err
		}
		return func() error {
			defer leave()
			return release()
		}, nil
	}

	unlock, err := lock(context.Background(), "a login")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("it is ours")
	if err := unlock(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// asking for a login
	// it is ours
}
