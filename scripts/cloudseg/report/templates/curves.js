// Shows the curves of the experiment and fold that are chosen: rows_of of curves.py in the browser.
(() => {
  const read = (name) => JSON.parse(document.getElementById(name).textContent);
  const [experiments, classes] = [read("curves-data"), read("classes-data")];
  const [experiment, fold] = ["experiment", "fold"].map((name) => document.getElementById(name));

  const rows = (runs) => {
    const made = { epochs: [], losses: [], classes: [] };
    for (const run of runs) {
      run.epoch.forEach((epoch, number) => {
        const at = { fold: `fold ${run.fold}`, epoch, best: epoch === run.best };
        made.epochs.push({ ...at, rate: run.rate[number], dice: run.dice[number] });
        for (const set of ["train", "valid"]) made.losses.push({ ...at, set, loss: run[set][number] });
        const names = run.names ?? classes;
        run.classes.forEach((dice, place) => made.classes.push({ ...at, class: names[place], dice: dice[number] }));
      });
    }
    const begins = [...new Set(runs.flatMap((run) => run.stages ?? []))].sort((one, other) => one - other);
    return { ...made, stages: begins.map((first) => ({ epoch: first - 0.5, first })) };
  };

  document.addEventListener("charts", ({ detail: views }) => {
    const data = { losses: "losses", dice: "epochs", classes: "classes", rate: "epochs" };
    const show = () => {
      const runs = experiments[experiment.value];
      const made = rows(fold.value === "all" ? runs : runs.filter((run) => String(run.fold) === fold.value));
      const staged = experiments.some((each) => each.some((run) => run.stages));
      for (const [name, rowsName] of Object.entries(data)) {
        const view = views[name].data(rowsName, made[rowsName]);
        (staged ? view.data("stages", made.stages) : view).runAsync();
      }
    };
    const choose = () => {
      const folds = experiments[experiment.value].map((run) => String(run.fold));
      fold.replaceChildren(...(folds.length > 1 ? ["all", ...folds] : folds).map((value) => new Option(value, value)));
      show();
    };
    experiment.addEventListener("change", choose);
    fold.addEventListener("change", show);
    choose();
  });
})();
