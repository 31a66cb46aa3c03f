package console_test

import "github.com/chromedp/chromedp"

// click clicks the first element of a selector.
func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}
