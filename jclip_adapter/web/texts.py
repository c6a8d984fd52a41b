"""The texts of the report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""Codes of HTML by the value of `--language`."""

TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "photos": ("photos", "图片"),
        "sounds": ("sounds", "声音"),
        # The page.
        "report": ("Report", "报告"),
        "skip": ("Skip to the content", "跳到正文"),
        "contents": ("Contents", "目录"),
        "sort": ("Sort by this column", "按此列排序"),
        "made_by": ("Written by jclip-adapter {version}.", "由 jclip-adapter {version} 生成。"),
        "offline": (
            "This file contains everything that it shows and loads nothing from elsewhere.",
            "此文件包含所显示的全部内容，不从别处加载任何东西。",
        ),
        # Cards.
        "no_thumbnail": ("no thumbnail", "没有缩略图"),
        "predicted_as": ("predicted as {name}", "预测为 {name}"),
        "true_class": ("class: {name}", "实际类别：{name}"),
        "alt_wrong": (
            "{photo}: predicted as {predicted}, its class is {truth}",
            "{photo}：预测为 {predicted}，实际类别是 {truth}",
        ),
        "alt_right": ("{photo}: correctly predicted as {predicted}", "{photo}：正确预测为 {predicted}"),
        "alt_unknown": ("{photo}: predicted as {predicted}", "{photo}：预测为 {predicted}"),
        "alt_shot": ("{photo}, a shot of {name}", "{photo}，{name} 的训练样本"),
        "more": ("{shown} of {count} are shown.", "共 {count} 个，这里显示 {shown} 个。"),
        # Evaluation.
        "evaluation": ("Evaluation", "评估"),
        "on_test": (
            "{method} predicts {top1:.1f} % of {count:,} labelled test {files} correctly. The 95 % interval of this "
            "share is {low:.1f}–{high:.1f} %.",
            "{method} 在 {count:,} 个带标签的测试{files}上的准确率为 {top1:.1f} %，95 % 区间为 "
            "{low:.1f}–{high:.1f} %。",
        ),
        "on_held_out": (
            "{method} predicts {top1:.1f} % of {count:,} {files} that were not used for training correctly. The 95 % "
            "interval of this share is {low:.1f}–{high:.1f} %.",
            "{method} 在 {count:,} 个未用于训练的{files}上的准确率为 {top1:.1f} %，95 % 区间为 "
            "{low:.1f}–{high:.1f} %。",
        ),
        "beside": (
            "On the same {files}, {baseline} reaches {top1:.1f} %.",
            "在同样的{files}上，{baseline} 的准确率为 {top1:.1f} %。",
        ),
        "zero-shot": ("zero-shot", "零样本分类"),
        "prototypes": ("the nearest class mean of the shots", "最近类均值分类"),
        "short_zero-shot": ("zero-shot", "零样本"),
        "short_prototypes": ("class means", "类均值"),
        "usual_confusion": (
            "The most frequent confusion: {true} is predicted as {predicted}, in {count} of {total} {files}.",
            "最常见的混淆：{true} 被预测为 {predicted}，{total} 个{files}中有 {count} 个。",
        ),
        "is_transductive": (
            "The method is transductive: it used all of these {files} at once.",
            "该方法是转导方法：它同时使用了这里的全部{files}。",
        ),
        "unreadable_count": (
            "{count} of the {files} cannot be read and count as wrong.",
            "{count} 个{files}无法读取，计为错误。",
        ),
        "overlap": (
            "{count} of the {files} are shots too, or near duplicates of shots. Their accuracy says little.",
            "{count} 个{files}本身就是训练样本，或与训练样本几乎相同；它们的准确率说明不了什么。",
        ),
        "without_overlap": ("Without them, top-1 is {top1:.1f} %.", "去掉它们，top-1 为 {top1:.1f} %。"),
        "groups": (
            "Top-1 is {base:.1f} % on classes with shots and {new:.1f} % on classes without.",
            "有训练样本的类别 top-1 为 {base:.1f} %，没有训练样本的类别为 {new:.1f} %。",
        ),
        "kept": (
            "--reject {rate:g} keeps {kept:.1f} % of these {files} ({low:.1f}–{high:.1f} %).",
            "--reject {rate:g} 保留了其中 {kept:.1f} % 的{files}（{low:.1f}–{high:.1f} %）。",
        ),
        "top1": ("top-1", "top-1"),
        "top5": ("top-5", "top-5"),
        "interval": ("95 % interval", "95 % 区间"),
        "calibration_error": ("calibration error", "校准误差"),
        "accuracy": ("Accuracy", "准确率"),
        "accuracy_text": (
            "Bars are 95 % intervals (Wilson), lines are the measured shares. Few {files} give wide intervals.",
            "横条是 95 % 区间（Wilson），竖线是测得的准确率；{files}越少，区间越宽。",
        ),
        "domain": ("domain", "领域"),
        "total": ("total", "总计"),
        "classes": ("classes", "类别数"),
        "class": ("class", "类别"),
        "usual_mistake": ("most often predicted as instead", "最常被误认为"),
        "by_domain": ("By domain", "各领域"),
        "by_class": ("By class, lowest first", "各类别，从低到高"),
        "classes_shown": (
            "{shown} of {count} classes are shown; predictions.csv has every prediction.",
            "共 {count} 个类别，这里显示 {shown} 个；全部预测见 predictions.csv。",
        ),
        "learning_curve": ("Estimate by number of shots", "各训练样本数下的估计"),
        "shots": ("shots", "训练样本数"),
        "held_out": ("held-out shots", "留出的训练样本"),
        "confusions": ("Confusions", "混淆"),
        "no_errors": ("No error was found.", "没有发现错误。"),
        "pair": ("{true} predicted as {predicted}", "{true} 被预测为 {predicted}"),
        "pair_count": ("{count} of {total}, {share:.0f} %", "{total} 个中的 {count} 个，{share:.0f} %"),
        "more_photos": ("+ {count} more", "另有 {count} 个"),
        "alt_confusion": (
            "Confusion matrix: the share of each true class (row) that is predicted as each class (column)",
            "混淆矩阵：每个实际类别（行）被预测为各类别（列）的比例",
        ),
        "errors": ("Most certain errors", "把握最大的错误"),
        "errors_text": (
            "Wrong predictions with the highest probability. Some may be wrong labels.",
            "概率最高的错误预测。其中一些可能是标签有误。",
        ),
        "uncertain": ("Least certain", "把握最小"),
        "uncertain_text": (
            "The {files} whose predicted class has the lowest probability.",
            "预测类别的概率最低的{files}。",
        ),
        "rejected": ("Rejected", "被拒绝"),
        "rejected_text": (
            "--reject {rate:g} marks these {files} as none of the classes, the least certain first.",
            "--reject {rate:g} 把这些{files}标为不属于任何类别，把握最小的在前。",
        ),
        "unreadable": ("Unreadable", "无法读取"),
        "calibration": ("Calibration", "校准"),
        "calibration_text": (
            "Of the {files} that get 90 %, 90 % should be right: then the dots are on the dashed line. On average the "
            "probabilities differ from the accuracy by {error:.1f} points.",
            "概率为 90 % 的{files}应有 90 % 是正确的，此时圆点落在虚线上。概率与准确率平均相差 {error:.1f} 个百分点。",
        ),
        "alt_reliability": (
            "Reliability diagram: accuracy over confidence in 15 bins, and the number of {files} in each",
            "可靠性图：15 个区间内准确率随置信度的变化，以及各区间的{files}数",
        ),
        # Photos found in features in parts.
        "nearest_to": ("Nearest to {query}", "与 {query} 最接近"),
        "nearly_same": ("Nearly the same: cosine of {least} or more", "几乎相同：余弦不小于 {least}"),
        "found_text": ("{count:,} found in {source}, with their cosine.", "在 {source} 中找到 {count:,} 个及其余弦。"),
        # Predictions.
        "prediction": ("Predictions", "预测"),
        "prediction_text": (
            "{method} classified {count:,} {files} and wrote {result}.",
            "{method} 对 {count:,} 个{files}分类，结果写入 {result}。",
        ),
        "all_read": ("All could be read.", "全部可以读取。"),
        "unreadable_only": ("{count} could not be read.", "{count} 个无法读取。"),
        # Training.
        "training": ("Training", "训练"),
        "trained_on": (
            "{method} was fitted on {count:,} {files} of {classes:,} classes. The features are from {weights}.",
            "{method} 用 {classes:,} 个类别的 {count:,} 个{files}训练，特征来自 {weights}。",
        ),
        "untrained": (
            "{method} without shots. The features are from {weights}.",
            "{method}，没有训练样本，特征来自 {weights}。",
        ),
        "estimate": (
            "Top-1 estimated without test {files}: {top1:.1f} % (95 % interval {low:.1f}–{high:.1f} %), from {count} "
            "held-out shots.",
            "不用测试{files}估计的 top-1：{top1:.1f} %（95 % 区间 {low:.1f}–{high:.1f} %），"
            "依据 {count} 个留出的训练样本。",
        ),
        "on_shots": (
            "Top-1 on the shots themselves: {trained:.1f} %; {baseline}: {before:.1f} %.",
            "在训练样本本身上的 top-1：{trained:.1f} %；{baseline}：{before:.1f} %。",
        ),
        "alt_curves": (
            "Training curves: loss and accuracy on the shots by step and epoch",
            "训练曲线：每步和每轮的损失与训练样本上的准确率",
        ),
        "doubtful": ("Suspicious shots", "可疑的训练样本"),
        "doubtful_text": (
            "These shots fit another class better than their own. Look for wrong labels; hard or unusual {files} are "
            "here too.",
            "这些训练样本更像另一个类别。请检查标签是否有误；难认或少见的{files}也会出现在这里。",
        ),
        "no_doubtful": ("Every shot fits its own class best.", "每个训练样本都最符合自己的类别。"),
        "fits_better": ("fits {name} better", "更像 {name}"),
        "alt_doubtful": (
            "{photo}: labelled {truth}, fits {predicted} better",
            "{photo}：标为 {truth}，更像 {predicted}",
        ),
        "shots_of_classes": ("Shots of each class", "各类别的训练样本"),
        "shots_shown": (
            "{shown} of {count} classes are shown; support.txt lists every shot.",
            "共 {count} 个类别，这里显示 {shown} 个；全部训练样本见 support.txt。",
        ),
        "no_shot": ("no shot", "没有训练样本"),
        "settings": ("Settings and versions", "设置与版本"),
        "options": ("Options", "选项"),
        "setting": ("setting", "设置"),
        "value": ("value", "值"),
        "hyperparameters": ("Hyper-parameters", "超参数"),
        "versions": ("Versions", "版本"),
        "digests": ("Weights", "权重"),
        "reproduce": ("How to reproduce", "如何重现"),
        "reproduce_text": (
            "Same files, settings and versions give the same run. Paths are relative to the folder where the command "
            "ran.",
            "文件、设置和版本相同，结果就相同。路径相对于运行命令时所在的目录。",
        ),
        "command": ("Command", "命令"),
        # Benchmark.
        "benchmark": ("Benchmark", "基准测试"),
        "benchmark_text": (
            "{methods} methods on {datasets} data sets. Bars are 95 % intervals of top-1; they run from the lowest to "
            "the highest end in the table.",
            "{datasets} 个数据集上的 {methods} 个方法。横条是 top-1 的 95 % 区间，范围从表中最低的端点到最高的端点。",
        ),
        "interval_of_seeds": (
            "Intervals are over {seeds} seeds (Student's t).",
            "区间由 {seeds} 个种子得出（Student t）。",
        ),
        "interval_of_tasks": ("Intervals are over the tasks (Student's t).", "区间由各任务得出（Student t）。"),
        "interval_of_queries": (
            "Intervals are of the share of {files} (Wilson), for one draw of the shots.",
            "区间是{files}比例的区间（Wilson），训练样本只抽取一次。",
        ),
        "transductive_note": (
            "A star marks transductive methods, which get all {files} at once and do not compare with the others.",
            "星号表示转导方法：它们同时得到全部{files}，不能与其他方法比较。",
        ),
        "method": ("method", "方法"),
        "kind": ("kind", "类型"),
        "seeds": ("seeds", "种子数"),
        "unseen": ("classes without shots", "没有训练样本的类别"),
        "ece": ("calibration error", "校准误差"),
        "base": ("base", "base"),
        "new": ("new", "new"),
        "harmonic": ("harmonic mean", "调和平均"),
        "difference": ("difference", "差"),
        "same_size": ("same size", "同样大小"),
        "resampled": ("drawn shares", "抽取的比例"),
        "picture": ("Picture", "图"),
        "alt_benchmark": (
            "Top-1 of every method on every data set, with 95 % intervals",
            "每个方法在每个数据集上的 top-1 及 95 % 区间",
        ),
    }
)
"""English and Chinese by key; fields in braces are those of `str.format`."""
