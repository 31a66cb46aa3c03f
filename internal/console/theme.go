package console

import (
	"context"
	"net/http"
)

const themeCookie = "postrider_theme"

// themes are what the colours may be, in the order in which the switch has them.
var themes = []string{"auto", "light", "dark"}

// Themes are what may be chosen.
func (q *request) Themes() []string { return themes }

// Theme is what was chosen: one of themes.
func (q *request) Theme() string {
	if c, err := q.http.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return themes[0]
}

// setTheme is for browsers without scripts: the others set the cookie themselves.
func (h *Handler) setTheme(_ context.Context, q *request) (*done, error) {
	theme := q.http.PostForm.Get("theme")
	if theme != "auto" && theme != "light" && theme != "dark" {
		return nil, badInput("theme %q: must be auto, light or dark", clip(theme, 100))
	}
	q.cookie = &http.Cookie{Name: themeCookie, Value: theme, Path: "/", MaxAge: 365 * 24 * 3600, SameSite: http.SameSiteStrictMode}
	return &done{to: ownPath(q.http.PostForm.Get("back"))}, nil
}
