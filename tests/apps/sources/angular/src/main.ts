import { Component, signal } from "@angular/core";
import { bootstrapApplication } from "@angular/platform-browser";
import { RouterLink, RouterOutlet, provideRouter } from "@angular/router";

@Component({ selector: "app-home", template: `<h1>Home</h1>` })
class Home {}

@Component({
  selector: "app-root",
  imports: [RouterLink, RouterOutlet],
  template: `<button (click)="count.set(count() + 1)">pressed {{ count() }}</button><a routerLink="/users/ada">ada</a><router-outlet />`,
})
class App {
  count = signal(0);
}

bootstrapApplication(App, {
  providers: [
    provideRouter([
      { path: "", component: Home },
      { path: "users/:name", loadComponent: () => import("./user").then((module) => module.User) },
    ]),
  ],
});
