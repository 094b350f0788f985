// Command service shows a web service that runs as several replicas and calls an API
// in the name of many users. The replicas share the users' logins: each refresh token
// is spent once, by one of them.
//
//	go run .                                   # a sealed directory, for replicas on one machine
//	go run . -store postgres://app@db/logins   # see package pgstore
//	go run . -store redis://cache:6379/0       # see package redisstore
//	go run . -store 'redis-sentinel://sentinel:26379/0?master_name=logins'
//	go run . -store 'redis-cluster://node:6379?addr=another:6379'
//
// It starts a provider of its own, has all users log in through the replicas, sends them requests,
// and finally tells what the provider has seen. The exit status is 0 if no refresh
// token was presented twice and none was spent in vain.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

type options struct {
	store     string
	session   string
	confirm   int
	replicas  int
	users     int
	rate      int
	duration  time.Duration
	tokenLife time.Duration
	kill      time.Duration
	grace     time.Duration
	latency   time.Duration
	idle      time.Duration

	lease   time.Duration // of locks in Redis; 0 is the default
	nextKey []byte        // opens entries too, if there is one
	before  func(*swarm)  // is called before the replicas are started
	during  func(*swarm)  // the replicas serve until it returns; nil: for duration
}

func (o *options) register(flags *flag.FlagSet) {
	flags.StringVar(&o.store, "store", "", "where the logins are: postgres://..., redis://..., redis-sentinel://..., redis-cluster://..., or a directory; default a new one")
	flags.StringVar(&o.session, "session", "", "with PgBouncer in -store: the address of the PostgreSQL server itself")
	flags.IntVar(&o.confirm, "confirm", 0, "with Redis in -store: how many of its replicas must have confirmed what is saved")
	flags.IntVar(&o.replicas, "replicas", 4, "processes that serve")
	flags.IntVar(&o.users, "users", 50, "users who are logged in")
	flags.IntVar(&o.rate, "rate", 200, "requests per second to all replicas; 0: nobody uses the logins")
	flags.DurationVar(&o.duration, "for", 20*time.Second, "how long")
	flags.DurationVar(&o.tokenLife, "token-life", 5*time.Second, "how long an access token is good")
	flags.DurationVar(&o.kill, "kill", 0, "how often a replica is killed and replaced; 0 is never")
	flags.DurationVar(&o.grace, "grace", time.Minute, "with -kill, how long the provider accepts a refresh token again")
	flags.DurationVar(&o.idle, "idle", 0, "how long the provider keeps a login that is not refreshed; 0 is for ever")
	flags.DurationVar(&o.latency, "latency", 30*time.Millisecond, "how long the provider takes to answer")
}

func main() {
	if conf, ok := os.LookupEnv(replicaVar); ok {
		if err := replicaMain(conf); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 || o.replicas < 1 || o.users < 1 || o.rate < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	proof, err := run(ctx, o, os.Stdout)
	if err == nil {
		fmt.Print(proof)
		err = proof.check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}
