// Package cliauth logs the user of a command-line program in once, and keeps the program logged
// in:
//
//	p := provider.GitLab("")
//	client, err := cliauth.Open(ctx, cliauth.Config{
//		App: "my-app", Provider: p, Endpoint: p.Endpoint(clientID, "", "read_api"),
//	})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	resp, err := client.Get("https://gitlab.com/api/v4/user")
//
// The first run opens the user's browser, or shows a code or an address to open elsewhere if there
// is none, as over SSH. Later runs find the login, and renew it when that is due. The tokens go
// to the Origins of the Provider only.
//
// # In the middle of a run
//
// A login may end at any time, because the user or an administrator has ended it. Then requests
// fail with an error that wraps transport.ErrLoginRequired, and the next run logs the user in. A
// program that would rather go on calls [Client.Login] with that error, and repeats the request.
// It does the same with a challenge of an API that demands more than the login has, such as
// another scope or a second factor.
//
// [Logout] ends the login. Unlike Open it needs none that still works. [Forget] is for one that
// cannot be ended: its record is damaged, or the provider has gone. [OpenCache] is for commands
// that tell who is logged in:
//
//	cache, err := cliauth.OpenCache(ctx, "my-app")
//	if err != nil {
//		return err
//	}
//	accounts, err := login.Accounts(ctx, cache, tokencache.Key{})
//
// # Ctrl-C
//
// A refresh token can be spent once. A program that ends after the provider has rotated it, and
// before its successor is stored, may have lost the login. So while a refresh is under way, and
// only then, Ctrl-C and whatever else ends a program (SIGINT, SIGTERM, SIGHUP, SIGQUIT) wait until
// it is stored, for 20 seconds at most. Then the program ends as it would have ended. A second
// Ctrl-C does not wait. A pipe whose reader has gone (SIGPIPE) does not end the program in the
// middle of a refresh either.
//
// A program that handles signals itself, with signal.NotifyContext for instance, is told of them
// as always, and once more after the refresh. It should return from what it does, close the Client,
// and only then stop handling them, because the second one would end it at once.
//
// All Clients of a process count: signals pass when none of them refreshes any more.
//
// # What it is made of
//
// A Client is an http.Client with a transport.Transport, whose Source is there for all else:
// Source.Status says how the login is, and Source.OAuth2 serves libraries that take an
// oauth2.TokenSource. A program that needs more settings than [Config] has puts the same
// parts together by itself: see the example of package login.
package cliauth
