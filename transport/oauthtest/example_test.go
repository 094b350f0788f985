package oauthtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Is your client safe with a provider that rotates refresh tokens? Log it in,
// let the answer to its refresh get lost, and look at what it did.
func Example() {
	s := oauthtest.New(oauthtest.Config{
		Policy:    oauthtest.StrictFamily,
		AccessTTL: 9 * time.Second, // so short that x/oauth2 always refreshes
	})
	defer s.Close()

	// The client under test, here golang.org/x/oauth2 alone, reaches the server in
	// memory and starts from a login.
	login := s.Login("alice")
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: s.RoundTripper()})
	config := &oauth2.Config{
		ClientID:     s.ClientID(),
		ClientSecret: s.ClientSecret(),
		Endpoint:     oauth2.Endpoint{TokenURL: s.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader},
	}
	client := config.Client(ctx, &oauth2.Token{
		AccessToken: login.AccessToken, RefreshToken: login.RefreshToken, Expiry: login.Expiry,
	})
	call := func() {
		resp, err := client.Get(s.APIURL() + "/things")
		if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			fmt.Println("call:", refused.ErrorCode)
		} else if err != nil {
			fmt.Println("call: failed")
		} else {
			resp.Body.Close()
			fmt.Println("call:", resp.Status)
		}
	}

	call()
	// The server spends the refresh token, and the connection breaks.
	s.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Drop))
	call()
	// The client knows no better than to present the same token again.
	call()

	n := s.Counts()
	fmt.Println("token requests:", n.TokenRequests, "reuses:", n.Reuses, "logins lost:", n.FamiliesRevoked)
	// Output:
	// call: 200 OK
	// call: failed
	// call: invalid_grant
	// token requests: 3 reuses: 1 logins lost: 1
}
