package main

import (
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/config"
)

func (a *app) settingsCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "List all settings with their values",
		Long:  "List the environment variables that Postrider reads, what they are set to and what they mean. Secrets are not shown.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if markdown {
				a.printf("%s", config.Markdown())
				return nil
			}
			s, err := a.settings()
			if err != nil {
				return err
			}
			return a.printSettings(s)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the table of docs/settings.md")
	return a.withJSON(cmd)
}

// settingView is one setting in JSON.
type settingView struct {
	Name        string `json:"name"`
	Value       string `json:"value"`
	Default     string `json:"default"`
	Description string `json:"description"`
}

func (a *app) printSettings(s *config.Settings) error {
	list := newTable("SETTING", "VALUE", "DEFAULT", "MEANING")
	var views []settingView
	for _, v := range s.Variables() {
		views = append(views, settingView{v.Name, v.Value, v.Default, v.Help})
		list.add(v.Name, v.Value, v.Default, v.Help)
	}
	if a.json {
		return a.printJSON(views)
	}
	list.print(a.out)
	return nil
}
