package login

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/text"
)

const (
	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

	defaultInterval = 5 * time.Second // RFC 8628 section 3.2
	minInterval     = time.Second     // the RFC counts in seconds
	slowDown        = 5 * time.Second // RFC 8628 section 3.5
	longestPause    = time.Minute     // between polls while the provider is down
)

// Device logs in with a browser on any other device (RFC 8628): it shows an address and a short
// code, on a terminal also as a QR code, and polls the provider until the user has entered the
// code. An outage of the provider meanwhile does no harm.
//
// The login that it returns is for Source.Login. Errors are those of Loopback, and
// ErrMisconfigured if the provider has no device authorization endpoint.
func Device(ctx context.Context, cfg Config) (*tokencache.Record, error) {
	f, err := newFlow(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if f.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = f.limit(ctx)
		defer cancel()
	}
	d, err := f.authorizeDevice(ctx)
	if err != nil {
		return nil, err
	}
	f.say("To log in with %s, open this address on any device:\n\n%s\n\nand enter the code:\n\n%s\n\n", f.name, d.URL, d.UserCode)
	if isTerminal(f.Out) {
		if code, ok := qrText(cmp.Or(d.CompleteURL, d.URL)); ok {
			f.say("This leads there too. Make sure that it shows the same code:\n\n%s\n", code)
		}
	}
	f.say("The code is good until %s.\n", d.Expiry.Format("15:04"))
	f.prompt(d.Prompt)
	return f.poll(ctx, d)
}

// A device is a device authorization (RFC 8628 section 3.2).
type device struct {
	Prompt
	code     tokencache.Secret
	interval time.Duration
}

// deviceAuthorization is the Op of its errors.
const deviceAuthorization = "device authorization"

// authorizeDevice requests a device authorization.
func (f *flow) authorizeDevice(ctx context.Context) (*device, error) {
	if f.Provider.DeviceAuthURL == "" {
		return nil, misconfigured("Provider", "it has no device authorization endpoint; use Loopback or Paste, or set DeviceAuthURL", nil)
	}
	params := f.requested()
	params.Set("client_id", f.Endpoint.ClientID)
	asked := time.Now()
	answer, err := f.Endpoint.Post(ctx, deviceAuthorization, f.Provider.DeviceAuthURL, params)
	if err != nil {
		return nil, err
	}
	d := &device{
		Prompt: Prompt{
			URL:         text.Clean(cmp.Or(string(answer["verification_uri"]), string(answer["verification_url"]))), // Google
			CompleteURL: text.Clean(cmp.Or(string(answer["verification_uri_complete"]), string(answer["verification_url_complete"]))),
			UserCode:    text.Clean(string(answer["user_code"])),
			Expiry:      asked.Add(cmp.Or(seconds(answer["expires_in"]), loginTimeout)),
		},
		code:     answer["device_code"],
		interval: max(cmp.Or(seconds(answer["interval"]), defaultInterval), minInterval),
	}
	if d.code == "" || d.UserCode == "" || !isWeb(d.URL) {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: deviceAuthorization, Remedy: "check Provider.DeviceAuthURL",
			Err: errors.New("the answer is not a device authorization")}
	}
	if !isWeb(d.CompleteURL) {
		d.CompleteURL = ""
	}
	return d, nil
}

// isWeb reports whether a browser can open the URL without doing anything else.
func isWeb(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// poll requests the tokens until the user has decided (RFC 8628 sections 3.4 and 3.5).
func (f *flow) poll(ctx context.Context, d *device) (*tokencache.Record, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, d.Expiry, outOfTime{})
	defer cancel()
	end, _ := ctx.Deadline()
	pause, failures := d.interval, 0
	for {
		var next <-chan time.Time
		if time.Now().Add(pause).Before(end) { // A later poll would be in vain.
			next = time.After(pause)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
		rec, err := f.Endpoint.Grant(ctx, deviceGrant, url.Values{"device_code": {string(d.code)}})
		if err == nil {
			if err = f.settle(rec); err != nil {
				f.discard(ctx, rec)
				return nil, err
			}
			return rec, nil
		}
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		e, ok := errors.AsType[*transport.Error](err)
		if !ok {
			return nil, err
		}
		switch strings.ToLower(e.Code) {
		case "authorization_pending":
			failures, pause = 0, d.interval
			continue
		case "slow_down":
			d.interval += slowDown // for this and all later polls
			failures, pause = 0, d.interval
			continue
		case "access_denied", "authorization_declined": // Microsoft Entra
			e.Kind, e.Remedy = transport.ErrLoginRequired, "log in again, and allow what is asked for"
			return nil, e
		case "expired_token":
			e.Kind, e.Remedy = transport.ErrLoginRequired, "log in again: the code was not entered in time"
			return nil, e
		}
		if e.Kind != transport.ErrUnavailable && e.Kind != transport.ErrAmbiguous {
			return nil, e
		}
		// RFC 8628 section 3.5: the longer there is no answer, the less often.
		if failures++; failures == 1 {
			f.say("%s does not answer at the moment. Still trying.\n", f.name)
		}
		pause = max(d.interval, e.RetryAfter, min(d.interval<<min(failures, 6), longestPause))
	}
}
