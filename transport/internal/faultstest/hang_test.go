package faultstest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// 10 000 requests with a good token that is to be renewed, while the provider hangs for
// three minutes: none fails, though the client waits for a second only, and none waits at
// all. What that costs by a real clock is measured by package bench.
func TestRequestsThroughAHang(t *testing.T) {
	t.Parallel()
	realparts.Bubble(t, func(t *testing.T) {
		const requests, hang = 10_000, 3 * time.Minute
		srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
		defer srv.Close()
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		if err != nil {
			t.Fatal(err)
		}
		source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Logger: slog.New(slog.DiscardHandler),
			Refresher: &endpoint.Endpoint{TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), Base: srv.RoundTripper(),
				ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader}})
		if err != nil {
			t.Fatal(err)
		}
		tokens := srv.Login(account)
		err = source.Login(t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken),
			RefreshToken: tokencache.Secret(tokens.RefreshToken), ObtainedAt: time.Now(), Expiry: tokens.Expiry, RefreshAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: srv.RoundTripper()})
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: rt, Timeout: time.Second}
		failed, longest := 0, time.Duration(0)
		srv.Freeze()
		begun := time.Now()
		for i := range requests {
			time.Sleep(time.Until(begun.Add(hang * time.Duration(i) / requests)))
			sent := time.Now()
			resp, err := client.Get(srv.APIURL())
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			longest = max(longest, time.Since(sent))
			if err != nil || resp.StatusCode != http.StatusOK {
				if failed++; failed < 5 {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				continue
			}
			go resp.Body.Close() // which sees to the refresh, see Config.Settle
		}
		srv.Thaw()
		time.Sleep(time.Second)
		synctest.Wait()
		if err := source.Close(context.Background()); err != nil {
			t.Error(err)
		}
		c := srv.Counts()
		t.Logf("%d requests, %d failed, the longest took %v; %d token requests, %d questions", requests, failed, longest, c.TokenRequests, c.Questions)
		if failed > 0 || longest > 0 || c.TokenRequests != 1 || c.Rotations != 1 {
			t.Errorf("%d failed, the longest took %v, %d token requests, %d rotations", failed, longest, c.TokenRequests, c.Rotations)
		}
	})
}
