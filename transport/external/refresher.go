package external

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A refresher is asked when a token is of no more use, and there is no other one.
type refresher struct{ where string }

func (s *store) refresher() transport.Refresher { return refresher{s.where} }

func (r refresher) Identity() transport.Identity { return transport.Identity{} }

func (r refresher) Check(current *tokencache.Record) error {
	if current.AccessToken != "" && !strings.HasPrefix(current.LoginID, loginPrefix) {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Err: errors.New("the token is " + r.where),
			Remedy: "a login cannot take its place: use a Source with a Cache for that"}
	}
	return nil
}

func (r refresher) Refresh(_ context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	what := "was rejected by an API"
	if left := time.Until(current.Expiry); !current.Expiry.IsZero() && left <= 0 {
		what = "expired at " + current.Expiry.UTC().Format(time.RFC3339)
	} else if !current.Expiry.IsZero() && left < readInterval {
		what = "is about to expire, or was rejected by an API"
	}
	return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: fmt.Errorf("the token %s %s", r.where, what),
		Remedy: "whoever writes it has to renew it"}
}
