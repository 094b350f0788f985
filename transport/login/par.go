package login

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// push sends the parameters of the request to the provider (RFC 9126), and returns those that
// are left for the browser.
func (r *request) push(ctx context.Context, params url.Values) (url.Values, error) {
	if r.Provider.PARURL == "" {
		return nil, misconfigured("PAR", "the provider has no endpoint for pushed authorization requests; set Provider.PARURL", nil)
	}
	asked := time.Now()
	answer, err := r.Endpoint.Post(ctx, "push authorization request", r.Provider.PARURL, params)
	if err != nil {
		return nil, err
	}
	uri := string(answer["request_uri"])
	if uri == "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "push authorization request",
			Remedy: "check Provider.PARURL", Err: errors.New("the answer has no request_uri")}
	}
	if life := seconds(answer["expires_in"]); life > 0 {
		r.expiry = asked.Add(life)
	}
	return url.Values{"client_id": {r.Endpoint.ClientID}, "request_uri": {uri}}, nil
}

// seconds parses a number of seconds, however it is written, and returns 0 if it cannot.
func seconds(text tokencache.Secret) time.Duration {
	n, err := strconv.ParseFloat(strings.Trim(string(text), `" `), 64)
	if err != nil || !(n > 0) {
		return 0
	}
	const longest = 24 * time.Hour
	return time.Duration(min(n, longest.Seconds()) * float64(time.Second))
}
